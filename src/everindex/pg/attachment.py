"""The attachment of a database: its application has its own migrations, and everindex leaves its schema alone.

It is set by EVERINDEX_ATTACHED for one process, or by the comment on schema `everindex_meta` for all of them: every role can
read a comment, whatever its privileges, and a dump includes it. Nothing here reads `alembic_version`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.settings import current_settings

#: The comment on schema everindex_meta. Any other text has no meaning.
ATTACHED = "everindex: attached"
DETACHING = "everindex: being detached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How it is known that the database is attached."""

    by: Literal["setting", "record"]
    is_recorded: bool
    is_being_detached: bool = False

    @property
    def words(self) -> str:
        """For a message: `attached (EVERINDEX_ATTACHED)`."""
        return f"attached ({'EVERINDEX_ATTACHED' if self.by == 'setting' else 'everindex attach'})"


def read_attachment(connection: Connection) -> Attachment | None:
    """None if the database is not attached. Reads only, in one statement that every role may run."""
    with translate_errors("checking whether this database is attached"):
        row = connection.execute(
            "SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace "
            "WHERE nspname = 'everindex_meta'"
        ).fetchone()
    comment = None if row is None else row[0]
    is_recorded = comment in (ATTACHED, DETACHING)
    if not is_recorded and not current_settings().attached:
        return None
    return Attachment(
        by="record" if is_recorded else "setting", is_recorded=is_recorded, is_being_detached=comment == DETACHING
    )


def write_attachment(connection: Connection, state: Literal["attached", "detaching"]) -> None:
    """Records it in the schema, which must exist; only the schema's owner may do this. Raises PermissionDenied."""
    with translate_errors("recording that this database is attached"):
        if state == "attached":
            connection.execute("COMMENT ON SCHEMA everindex_meta IS 'everindex: attached'")
        else:
            connection.execute("COMMENT ON SCHEMA everindex_meta IS 'everindex: being detached'")
