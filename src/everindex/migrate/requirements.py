"""An alias of `migrate.frozen.requirements`, for copies of alembic/versions from before it moved."""

from __future__ import annotations

from everindex.migrate.frozen.requirements import embedding_dimensions, require_pgvector

__all__ = ["embedding_dimensions", "require_pgvector"]
