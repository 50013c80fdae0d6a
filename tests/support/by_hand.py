"""SQL that somebody else runs in a database: changes to it, and reads of what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from everindex.articles.instance import Instance


def run(conninfo: str, *statements: str | sql.Composed) -> None:
    """Each statement outside of a transaction; what it counted is in the statistics when this returns."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(conninfo: str, statement: str | sql.Composed, *parameters: object) -> list[tuple[Any, ...]]:
    """What the statement returns. A `%` in it is written `%%` where there are parameters, and only there."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement, parameters or None).fetchall()


def change(instance: Instance, *statements: str) -> None:
    """Runs the statements in the database of an instance, which then forgets what it has learned of it."""
    run(instance.conninfo, *statements)
    instance.invalidate()
