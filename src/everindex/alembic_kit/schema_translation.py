"""The schema of an operation: named in the revision, and translated if the application's connection translates schemas.

SQLAlchemy's `schema_translate_map` is read from the execution options of the connection or of its engine. A script (`--sql`)
has no connection: env.py passes the same map to `context.configure(schema_translate_map=…)`, which also applies online. Reads
no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alembic.runtime.migration import MigrationContext

OPTION = "schema_translate_map"


def translated(schema: str | None, context: MigrationContext) -> str | None:
    """The schema to which `schema` (None: without one) is translated; None if the search_path determines it."""
    found = _translate_map(context).get(schema, schema)
    return None if found is None else str(found)


def _translate_map(context: MigrationContext) -> Mapping[str | None, str | None]:
    given = context.opts.get(OPTION)
    if given is not None:
        return dict(given)
    bind: Any = None if context.as_sql else context.bind
    if bind is None and context.environment_context is not None:
        # Alembic's recipe for sharing a connection; a script is written for the translated schema.
        bind = context.environment_context.config.attributes.get("connection")
    options: Mapping[str, Any] = getattr(bind, "get_execution_options", dict)()
    return options.get(OPTION) or {}
