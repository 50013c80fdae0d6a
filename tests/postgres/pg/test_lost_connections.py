"""A connection that is lost leaves its block as our own error, whoever opened it; every other error leaves as it is."""

from __future__ import annotations

import psycopg
import pytest

from everindex.errors import ServerUnreachable
from everindex.pg.connections import connect

ENDS_ITSELF = "SELECT pg_terminate_backend(pg_backend_pid())"


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_backend_that_is_ended_is_told_in_three_lines(empty: str, autocommit: bool) -> None:
    with (
        pytest.raises(ServerUnreachable, match="the connection was lost") as told,
        connect(empty, autocommit=autocommit) as connection,
    ):
        connection.execute(ENDS_ITSELF)
    assert len(str(told.value).splitlines()) == 3
    assert isinstance(told.value.__cause__, psycopg.errors.AdminShutdown)


def test_in_a_transaction_too(empty: str) -> None:
    with pytest.raises(ServerUnreachable), connect(empty) as connection, connection.transaction():
        connection.execute(ENDS_ITSELF)


def test_an_error_that_leaves_the_connection_alive_stays_the_drivers(empty: str) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable), connect(empty) as connection:
        connection.execute("SELECT FROM nothing_of_this_name")
    with pytest.raises(psycopg.errors.QueryCanceled), connect(empty) as connection:
        connection.execute("SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)")
