"""What somebody else does to a database, and reads of it, with SQL of their own."""

from __future__ import annotations

from typing import Any

import psycopg


def run(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def rows(conninfo: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(statement, parameters).fetchall()
