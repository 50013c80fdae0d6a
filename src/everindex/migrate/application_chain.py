"""Recognition of another application's migrations before everindex's own continue on its database.

At the revision before the vector index the upgrade continues, as the deployment guide promises, and warns about the
consequences. At earlier revisions it is rejected: everindex would create substitutes for what the application's later
revisions create, and stamp past them (docs/decisions/0019).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from everindex.errors import ApplicationChainFirst
from everindex.migrate.chain import BEFORE_INDEX, known_revisions, script_directory
from everindex.migrate.revision import current_revisions
from everindex.migrate.standing import Standing
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import count_text

log = logging.getLogger(__name__)

#: The revision that creates `articles`: its module names the columns.
FIRST = "d8d9cdcec340"
OUR_TABLES = ["articles", "raw_articles", "article_analysis_cache", "incident_status", "alembic_version"]
#: Traces of the first revision that exist even if all tables existed before it, and comments were lost in a dump.
OUR_INDEXES = ["articles_news_source_idx", "articles_publication_date_idx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSchema:
    """The objects of an application that no revision of ours creates."""

    tables: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns of `articles`."""

    @property
    def words(self) -> str:
        parts = []
        if self.tables:
            parts.append(f"{count_text(len(self.tables), 'other table')} ({_some(self.tables)})")
        if self.columns:
            parts.append(f"articles has columns of its own ({_some(self.columns)})")
        return " and ".join(parts)


def look_before_upgrade(connection: Connection, standing: Standing) -> None:
    """Called before a revision is applied. Raises ApplicationChainFirst, or warns and lets the upgrade continue. Reads only."""
    if standing.kind not in ("behind", "head"):
        return
    found = foreign_schema(connection)
    if found is None:
        return
    revision = ", ".join(standing.current)
    if standing.kind == "head":
        log.info(
            "another application's migrations created this database (%s): before they continue, run  everindex attach",
            found.words,
            extra={"event": "other-migrations-found"},
        )
    elif standing.current == [BEFORE_INDEX]:
        log.warning(
            "another application's own migrations created this database: it is at revision %s, with %s. The upgrade adds "
            "revision %s to it. When that application's next release migrates the database further, everindex will no longer "
            "know its revision, and its container will stop; and a release of it without %s cannot migrate at all. To leave its "
            "migrations alone run  everindex attach  instead (after this upgrade:  alembic downgrade -1  first); "
            "docs/attaching.md",
            revision, found.words, standing.head, standing.head,
         extra={"event": "other-migrations-extended"})  # fmt: skip
    else:
        raise ApplicationChainFirst(
            f"another application's own migrations created this database, but only up to revision {revision}.",
            why=f"it has {found.words}; everindex would create its own tables in place of those of the application's next "
            f"revisions, and mark these revisions as applied.",
            next_step=f"first run the application's own migrations to {BEFORE_INDEX} or later, then this again; or run  "
            "everindex attach , which leaves its migrations alone. Nothing was changed.",
        )


def foreign_schema(connection: Connection) -> ForeignSchema | None:
    """The objects that no revision of ours creates, if the database has no trace of our revisions; None otherwise. Reads only."""
    is_traced, found = _beside_ours(connection)
    return None if is_traced or not (found.tables or found.columns) else found


def is_everindex_alone(connection: Connection) -> bool:
    """Whether the database is at a revision of ours and holds nothing but what that creates. Reads only."""
    _, found = _beside_ours(connection)
    if found.tables or found.columns:  # an application's own database, so its revision does not matter and is not read
        return False
    current = current_revisions(connection)
    return bool(current) and set(current) <= known_revisions()


def _beside_ours(connection: Connection) -> tuple[bool, ForeignSchema]:
    """Whether our migrations have left a trace, and the objects that they do not create."""
    ours = script_directory().get_revision(FIRST).module.ARTICLE_COLUMNS
    with translate_errors("finding out whose migrations created this database"):
        row = connection.execute(
            """
            WITH place AS (SELECT relnamespace AS oid FROM pg_catalog.pg_class WHERE oid = to_regclass('alembic_version')),
            tables AS (
                SELECT c.oid, c.relname FROM pg_catalog.pg_class c JOIN place p ON c.relnamespace = p.oid
                WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                                  AND d.objid = c.oid AND d.deptype = 'e'))
            SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'everindex_meta')
                OR EXISTS (SELECT FROM tables t JOIN pg_catalog.pg_description d
                           ON d.classoid = 'pg_catalog.pg_class'::regclass AND d.objoid = t.oid
                           WHERE d.description LIKE 'everindex: made by revision %%')
                OR (SELECT count(*) = cardinality(%(indexes)s::text[]) FROM pg_catalog.pg_class i
                    JOIN place p ON i.relnamespace = p.oid WHERE i.relname = ANY(%(indexes)s)),
                ARRAY(SELECT t.relname::text FROM tables t WHERE t.relname <> ALL(%(tables)s) ORDER BY 1),
                ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = to_regclass('articles')
                      AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL(%(columns)s) ORDER BY 1)
            """,
            {"indexes": OUR_INDEXES, "tables": OUR_TABLES, "columns": [*ours, "uri", "embedding"]},
        ).fetchone()
    assert row is not None
    return bool(row[0]), ForeignSchema(tables=tuple(row[1]), columns=tuple(row[2]))


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
