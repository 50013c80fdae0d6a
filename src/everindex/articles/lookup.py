"""Reads of one article: all that is known of it, or only its vector, whatever types its columns have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.model import Article
from everindex.articles.table import CollectionTable
from everindex.errors import ArticleNotFound
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


def read_article(reading: Reading, table: CollectionTable, uri: str) -> Article:
    """The article `uri`. Raises ArticleNotFound."""
    columns = table.writable_columns
    raw = sql.SQL("(SELECT r.raw_markdown FROM raw_articles r WHERE r.uri = a.uri)")
    whole = sql.SQL("SELECT {columns}, {raw} FROM {table} a WHERE uri = %s").format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns),
        raw=raw if table.has_raw_articles else sql.SQL("NULL"),
        table=table.identifier,
    )
    return stored_article(dict(zip((*columns, "raw_text"), _row(reading, whole, uri), strict=True)))


def read_vector(reading: Reading, table: CollectionTable, uri: str) -> Any:
    """The vector of the article `uri`, as pgvector gives it; None where it has none yet. Raises ArticleNotFound."""
    statement = sql.SQL("SELECT {} FROM {} WHERE {} = %s::{}").format(
        table.vector, table.identifier, table.key, table.key_type
    )
    return _row(reading, statement, uri, binary=True)[0]


def stored_article(values: Mapping[str, Any]) -> Article:
    """An Article from the text of its columns, whatever types an existing instance gave them."""
    known = dict(values)
    known["tags"] = _tags(known.get("tags"))
    known["analyzed"] = (
        None if known.get("analyzed") is None else str(known["analyzed"]).lower() in ("true", "t", "1", "yes")
    )
    for name in ("quality_score", "relevance_score"):
        try:
            known[name] = None if known.get(name) in (None, "") else float(known[name])
        except ValueError:
            known[name] = None
    return Article(**known)


def _tags(text: Any) -> tuple[str, ...] | None:
    if text is None:
        return None
    if str(text).startswith("["):
        try:
            return tuple(map(str, json.loads(text)))
        except ValueError:
            pass
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def _row(reading: Reading, statement: sql.Composed, uri: str, *, binary: bool = False) -> tuple[Any, ...]:
    parameters = (_storable(uri),)

    def read(connection: Connection) -> tuple[Any, ...] | None:
        with translate_errors("reading an article"):
            return connection.execute(statement, parameters, binary=binary).fetchone()

    row = reading.read(read)
    if row is None:
        raise _not_found(uri)
    return row


def _not_found(uri: str) -> ArticleNotFound:
    return ArticleNotFound(
        f"there is no article {uri[:200]!r}.",
        why="no row has that uri: it was never imported, or was deleted.",
        next_step="search for it by its title.",
    )


def _storable(uri: str) -> str:
    """The uri, if any row can have it. Raises ArticleNotFound for a NUL or half of a surrogate pair."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise _not_found(uri) from None
    if "\0" in uri:
        raise _not_found(uri)
    return uri
