"""The state of a database relative to everindex's own revisions, and how commands describe it.

It is attached to another application, at head, behind, at an unknown revision, unreadable, or at no revision. On an attached
database `alembic_version` is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from everindex.errors import PermissionDenied, RevisionUnknown
from everindex.index.recall.proof import Proof
from everindex.migrate.chain import head_revision, known_revisions, script_directory
from everindex.migrate.revision import current_revisions, grant_to_read
from everindex.pg.attachment import Attachment, read_attachment
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

Kind = Literal["attached", "head", "behind", "unknown", "unreadable", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The state of one database, from the point of view of this release."""

    kind: Kind
    """unknown: at a revision that this release does not know; unreadable: alembic_version exists, but this role may not read
    it; none: at no revision, and not attached."""

    current: list[str]
    """The content of alembic_version; always empty when attached."""

    head: str
    attachment: Attachment | None = None
    grant: str | None = None
    """The statement that lets the role read alembic_version, if it may not."""

    @property
    def is_attached(self) -> bool:
        return self.kind == "attached"

    @property
    def is_head(self) -> bool:
        return self.kind == "head"

    @property
    def is_right(self) -> bool:
        """True when nothing is left for a migration to do."""
        return self.kind in ("attached", "head")

    @property
    def words(self) -> str:
        """A short form: `attached`, `e0aa2eb4fa0a (head)`, a revision, or that there is none."""
        match self.kind:
            case "attached":
                return "attached"
            case "head":
                return f"{self.head} (head)"
            case "none":
                return "no revision: not migrated"
            case "unreadable":
                return "not readable by this role"
            case _:
                return " ".join(self.current)

    @property
    def sentence(self) -> str:
        """The sentence of a proof, without its full stop."""
        revision = ", ".join(self.current)
        match self.kind:
            case "attached":
                assert self.attachment is not None
                return (
                    f"the database is {self.attachment.words}: its application has its own migrations, and everindex "
                    "neither reads nor writes alembic_version"
                )
            case "head":
                return f"the database is at revision {self.head} (head)"
            case "unknown":
                return (
                    f"the database is at revision {revision}, which this release of everindex does not know: its "
                    "application has newer migrations, or a later release of everindex has migrated it"
                )
            case "unreadable":
                return "the revision of the database is unknown: this role may not read alembic_version"
            case _:
                return f"the database is at revision {revision or 'none'}; head is {self.head}"

    @property
    def next_step(self) -> str | None:
        match self.kind:
            case "attached" | "head":
                return None
            case "unknown":
                return (
                    "if those migrations are an application's own, run  everindex attach : index, search, pages and keeper then "
                    "work without the revision. If it was a later release of everindex, deploy that release."
                )
            case "unreadable":
                return f"let its owner run  {self.grant} ; searches do not need it."
            case _:
                return "run  everindex migrate  (or alembic upgrade head)."


def read_standing(connection: Connection) -> Standing:
    """Reads only."""
    attachment = read_attachment(connection)
    if attachment is not None:
        return Standing(kind="attached", current=[], head=_head(), attachment=attachment)
    current = current_revisions(connection)
    grant = None if current else grant_to_read(connection)
    if current == [_head()]:
        kind: Kind = "head"
    elif any(revision not in _known() for revision in current):
        kind = "unknown"
    elif grant is not None:
        kind = "unreadable"
    else:
        kind = "behind" if current else "none"
    return Standing(kind=kind, current=current, head=_head(), grant=grant)


def prove_revision(connection: Connection) -> Proof:
    """Proves that the database is at the head of the migrations, or attached; skipped if the role may not read the revision.
    Reads only."""
    standing = read_standing(connection)
    holds = None if standing.kind == "unreadable" else standing.is_right
    return Proof(name="revision", holds=holds, sentence=standing.sentence, next_step=standing.next_step)


def has_article_schema(connection: Connection) -> bool:
    """Whether this database has articles: it has their table, is attached, or is at a revision of everindex. Reads only.

    A table with that name but without `uri` belongs to another application.
    """
    with translate_errors("looking for the article schema"):
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('articles') "
            "AND attname = 'uri' AND NOT attisdropped)"
        ).fetchone()
        if row is not None and row[0]:
            return True
        if read_attachment(connection) is not None:
            return True
        return not set(current_revisions(connection)).isdisjoint(known_revisions())


def require_known(standing: Standing) -> None:
    """Raises RevisionUnknown for a database at a revision that this release does not know, and PermissionDenied if the role may
    not read its revision."""
    if standing.kind == "unreadable":
        raise PermissionDenied(
            "this role may not read alembic_version, so the revision of the database is unknown.",
            why="alembic_version belongs to another role, which migrates this database.",
            next_step=f"nothing was changed. Connect as its owner, or let the owner run  {standing.grant} .",
        )
    if standing.kind == "unknown":
        raise RevisionUnknown(
            f"the database is at revision {', '.join(standing.current)}, which this release of everindex does not know.",
            why="its application has newer migrations, or a later release of everindex has migrated it.",
            next_step=f"nothing was changed. {str(standing.next_step)[:1].upper()}{str(standing.next_step)[1:]}",
        )


@cache
def _head() -> str:
    return head_revision()  # 50 ms of reading files that do not change


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in script_directory().walk_revisions())
