"""Rows of schema everindex_meta whose article, or row of a collection, is gone, and the statements that remove them.

everindex deletes both together; what an application deletes by itself leaves these. A table that does not exist here says
nothing about its rows, so what belongs to it is no orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.pg import own_schema
from everindex.pg.connections import Connection

#: Of each table at most so many are counted.
COUNTED = 1000

#: Runs a reading statement: `Examined.rows`, or a connection's.
Read = Callable[[sql.Composed], list[tuple[Any, ...]]]

#: Table → its column with the uri. The passages of whole texts are a collection, whose records come after them.
_OF_ARTICLES = {
    "embedding_record": "uri",
    "embedding_failure": "uri",
    "article_expiry": "expired_uri",
    "article_passage": "uri",
    "article_cut": "uri",
}
_OF_COLLECTIONS = ("collection_record", "collection_failure")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one table of the schema has about one table of rows."""

    kept_in: str
    """The table of the schema, `everindex_meta.embedding_record`."""

    of: str
    """The quoted table of the rows."""

    condition: sql.Composed
    """True for an orphan `r`."""

    @property
    def counting(self) -> sql.Composed:
        """Counts the orphans, COUNTED + 1 at most."""
        return sql.SQL("SELECT count(*) FROM (SELECT FROM {} r WHERE {} LIMIT {}) AS counted").format(
            self._table, self.condition, sql.Literal(COUNTED + 1)
        )

    @property
    def deletion(self) -> sql.Composed:
        """Removes the orphans; takes ROW EXCLUSIVE on the table of the schema."""
        return sql.SQL("DELETE FROM {} r WHERE {}").format(self._table, self.condition)

    @property
    def _table(self) -> sql.Identifier:
        return sql.Identifier(*self.kept_in.split("."))


def records_of_rows(connection: Connection, read: Read, articles: sql.Identifier | None) -> Iterator[Kept]:
    """What may have orphans: of the articles' table, and of every collection whose table exists. Reads only."""
    if articles is not None:
        for name, column in _OF_ARTICLES.items():
            if own_schema.is_readable(connection, name):
                yield Kept(
                    kept_in=f"everindex_meta.{name}",
                    of=articles.as_string(None),
                    condition=sql.SQL("NOT EXISTS (SELECT FROM {} a WHERE a.uri = r.{})").format(
                        articles, sql.Identifier(column)
                    ),
                )
    if not own_schema.is_readable(connection, "collection"):
        return
    collections = read(
        sql.SQL(
            """
            SELECT c.name, c.table_schema, c.table_name, a.attname, pg_catalog.format_type(a.atttypid, -1)
            FROM everindex_meta.collection c
            JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', c.table_schema, c.table_name))
                 AND a.attname = c.declaration ->> 'key' AND NOT a.attisdropped
            ORDER BY c.name
            """
        ).format()
    )
    for collection, schema, table, key, kind in collections:
        for name in _OF_COLLECTIONS:
            if own_schema.is_readable(connection, name):
                rows = sql.Identifier(schema, table)
                # By the key's own type, so that its index finds the row.
                condition = sql.SQL(
                    "r.collection = {} AND NOT EXISTS (SELECT FROM {} a WHERE a.{} = r.key::{})"
                ).format(sql.Literal(collection), rows, sql.Identifier(key), sql.SQL(kind))
                yield Kept(kept_in=f"everindex_meta.{name}", of=rows.as_string(None), condition=condition)
