"""The statement that one writes by hand for a search under a filter: what others are compared with."""

from __future__ import annotations

from article_corpus import COLUMNS
from psycopg import sql

K = 10


def plain_statement(column: str, *, rows: int = K) -> str:
    """What one writes by hand for such a search."""
    return (
        sql.SQL(
            "SELECT {columns}, embedding <=> %(vector)s AS distance FROM articles "
            "WHERE embedding IS NOT NULL AND {column} = %(value)s ORDER BY embedding <=> %(vector)s LIMIT {k}"
        )
        .format(
            columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), column=sql.Identifier(column), k=sql.Literal(rows)
        )
        .as_string(None)
    )
