"""Facets (the values that a search can be narrowed to) and the latest articles. Reads only.

The counts read the whole table once a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg import sql

from everindex.articles.instance import Instance
from everindex.articles.model import REQUIRED_COLUMNS
from everindex.articles.search.filters import NO_FILTERS, unexpired, where
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

FACET_COLUMNS = ("category", "topic", "news_source")
#: More values than this do not help in a select, so only the most frequent are offered. A filter accepts any value.
MAX_VALUES = 200
LATEST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """One value of a column, and the number of articles with it."""

    value: str
    articles: int

    def as_dict(self) -> dict[str, Any]:
        return {"value": self.value, "articles": self.articles}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An article in a list, without a distance."""

    uri: str
    title: str | None
    summary: str | None
    news_source: str | None
    category: str | None
    topic: str | None
    publication_date: str | None


def read_facets(instance: Instance) -> dict[str, list[Facet]]:
    """The most frequent values of category, topic and news_source, most frequent first."""
    table, _ = instance.engine.known()
    found: dict[str, list[Facet]] = {}
    for column in FACET_COLUMNS:
        statement = sql.SQL(
            "SELECT {column}::text, count(*) FROM {table} WHERE {column} IS NOT NULL AND {column}::text <> '' "
            "GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {limit}"
        ).format(column=sql.Identifier(column), table=table.identifier, limit=sql.Literal(MAX_VALUES))
        rows = instance.reading.read(partial(_rows, statement=statement, doing="counting the values of filters"))
        found[column] = [Facet(value=row[0], articles=row[1]) for row in rows]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The contents of the search page before the first search."""

    has_articles: bool
    latest: list[Listed]


def read_start(instance: Instance) -> Start:
    """The newest articles. Walks the index on publication_date backwards if there is one."""
    table, _ = instance.engine.known()
    is_text = table.columns["publication_date"] in ("text", "character varying")
    statement = sql.SQL(
        "SELECT {columns} FROM {table} WHERE publication_date IS NOT NULL{dated}{unexpired} ORDER BY publication_date DESC LIMIT "
        "{limit}"
    ).format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in REQUIRED_COLUMNS),
        table=table.identifier,
        # As text, "unknown" would be later than any date.
        dated=sql.SQL(" AND publication_date < '3'" if is_text else ""),
        unexpired=where(table, unexpired(table, NO_FILTERS))[0],
        limit=sql.Literal(LATEST),
    )
    rows = instance.reading.read(partial(_rows, statement=statement, doing="reading the latest articles"))
    latest = [Listed(**dict(zip(REQUIRED_COLUMNS, row, strict=True))) for row in rows]
    if latest:
        return Start(has_articles=True, latest=latest)
    some = sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table.identifier)
    rows = instance.reading.read(partial(_rows, statement=some, doing="looking for articles"))
    return Start(has_articles=bool(rows[0][0]), latest=[])


def _rows(connection: Connection, *, statement: sql.Composed, doing: str) -> list[tuple[Any, ...]]:
    with translate_errors(doing):
        return connection.execute(statement).fetchall()
