"""Reads of one article or row by its key: all its fields or only its vector, whatever the types of its columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES
from everindex.articles.model import Article
from everindex.articles.table import CollectionTable
from everindex.errors import ArticleNotFound, RowNotFound, StatementFailed
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import sqlstate_of, translate_errors


def read_article(reading: Reading, table: CollectionTable, uri: str) -> Article:
    """The article `uri`. Raises ArticleNotFound."""
    columns = table.writable_columns
    raw = sql.SQL("(SELECT r.raw_markdown FROM raw_articles r WHERE r.uri = a.uri)")
    expiry = sql.SQL(
        "(SELECT pg_catalog.to_char(e.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"') "
        "FROM everindex_meta.article_expiry e WHERE e.expired_uri = a.uri)"
    )
    whole = sql.SQL("SELECT {columns}, {raw}, {expiry} FROM {table} a WHERE uri = %s").format(
        columns=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns),
        raw=raw if table.has_raw_articles else sql.SQL("NULL"),
        expiry=expiry if table.has_expiry_records else sql.SQL("NULL"),
        table=table.identifier,
    )
    return stored_article(
        dict(zip((*columns, "raw_text", "expires_at"), _row(reading, table, whole, uri), strict=True))
    )


def read_vector(reading: Reading, table: CollectionTable, uri: str) -> Any:
    """The vector of the row whose key is `uri`, as pgvector gives it; None where it has none yet. Raises RowNotFound, of the
    articles ArticleNotFound."""
    statement = sql.SQL("SELECT {} FROM {} WHERE {} = %s::{}").format(
        table.vector_read, table.identifier, table.key, table.key_type
    )
    return _row(reading, table, statement, uri, binary=True)[0]


def read_row(reading: Reading, table: CollectionTable, key: str) -> dict[str, Any]:
    """The row with that key, each column by its name. Raises RowNotFound."""
    statement = sql.SQL("SELECT {} FROM {} WHERE {} = %s::{}").format(
        table.selected, table.identifier, table.key, table.key_type
    )
    return dict(zip(table.spec.columns.names, _row(reading, table, statement, key), strict=True))


def read_rows(reading: Reading, table: CollectionTable, keys: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows with these keys, in their order, each column by its name; a key that no row has is left out."""
    wanted = [str(key) for key in keys]
    statement = sql.SQL("SELECT a.{key}::pg_catalog.text, {columns} FROM {table} a WHERE a.{key} = ANY({keys})").format(
        key=table.key,
        columns=table.selected,
        table=table.identifier,
        keys=sql.SQL("%s::pg_catalog.text[]::{}[]").format(table.key_type),
    )

    def read(connection: Connection) -> list[tuple[Any, ...]]:
        with translate_errors(f"reading rows of {table.spec.name}"):
            return connection.execute(statement, (wanted,)).fetchall()

    found = {row[0]: dict(zip(table.spec.columns.names, row[1:], strict=True)) for row in reading.read(read)}
    return [found[key] for key in wanted if key in found]


def stored_article(values: Mapping[str, Any]) -> Article:
    """An Article from the text of its columns, whatever their types in an existing instance."""
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


def _row(
    reading: Reading, table: CollectionTable, statement: sql.Composed, uri: str, *, binary: bool = False
) -> tuple[Any, ...]:
    parameters = (_storable(table, uri),)

    def read(connection: Connection) -> tuple[Any, ...] | None:
        with translate_errors("reading an article"):
            return connection.execute(statement, parameters, binary=binary).fetchone()

    try:
        row = reading.read(read)
    except StatementFailed as exc:
        if not sqlstate_of(exc).startswith("22"):  # a data exception: no key of this type is written like that
            raise
        raise not_found(table, uri) from exc
    if row is None:
        raise not_found(table, uri)
    return row


def not_found(table: CollectionTable, uri: str) -> RowNotFound:
    """The error of a key that no row has."""
    if table.spec is not ARTICLES:
        return RowNotFound(
            f"collection {table.spec.name!r} has no row {uri[:200]!r}.",
            why="no row has that key: it was never stored, or was deleted.",
            next_step="search for it by its text.",
        )
    return ArticleNotFound(
        f"there is no article {uri[:200]!r}.",
        why="no row has this uri: the article was never imported, or was deleted.",
        next_step="search for its title.",
    )


def _storable(table: CollectionTable, uri: str) -> str:
    """The uri, if it can be stored. Raises ArticleNotFound for a NUL or half of a surrogate pair."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise not_found(table, uri) from None
    if "\0" in uri:
        raise not_found(table, uri)
    return uri
