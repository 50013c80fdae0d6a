"""Frozen: what revision 8eadb2079747 needs of the server and of the settings, checked before it changes anything."""

from __future__ import annotations

from typing import Any

from everindex.errors import SettingInvalid
from everindex.pg import capabilities
from everindex.settings import current_settings

#: The most dimensions of an HNSW index on a column of type vector (pgvector 0.5 to 0.8, hnsw.h: HNSW_MAX_DIM).
LIMIT = 2000


def require_pgvector(op: Any) -> None:
    """Raises PostgresTooOld, ExtensionUnavailable, ExtensionNotPermitted or ExtensionTooOld; offline it checks nothing."""
    context = op.get_context()
    if context.as_sql:
        return
    found = capabilities.look(context.connection.connection.driver_connection)
    capabilities.require_postgres(found)
    capabilities.require_pgvector(found)


def embedding_dimensions() -> int:
    """The width of `articles.embedding`. Raises SettingInvalid for a width that no HNSW index on it could hold."""
    width = current_settings().dimensions
    if width > LIMIT:
        raise SettingInvalid(
            f"EVERINDEX_DIMENSIONS = {width} cannot be used.",
            why=f"an HNSW index holds at most {LIMIT} dimensions of type vector (pgvector, hnsw.h).",
            next_step=f"set it to the width of your model, at most {LIMIT}; many models take a `dimensions` option.",
        )
    return width
