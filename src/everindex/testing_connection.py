"""The driver connection behind whatever a test uses: an address, a connection, an Engine or a Session, async or not.

An async connection of psycopg is used through its libpq connection, on which the caller's thread waits: a plain call works
in sync and async tests, and what the test has written is visible. The async connection must be idle meanwhile.
An async connection of another driver cannot be waited for inside its event loop: as long as it has no open transaction, a
new connection to the address of its engine is used instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from everindex.pg import address
from everindex.pg.connections import connect


class _Shared(psycopg.Connection[Any]):
    """A second, blocking view of a connection that its owner closes."""

    def __del__(self, _warn: Any = None) -> None:
        return  # the connection is not ours, so there is nothing that we could have left open


@contextmanager
def driver_connection(connection: Any) -> Iterator[Any]:
    """The driver connection of whatever was passed; a connection opened here is closed. Raises TypeError."""
    if isinstance(connection, str):
        with connect(address.without_driver(connection), application_name="everindex testing") as opened:
            yield opened
    elif isinstance(connection, psycopg.AsyncConnection):
        yield _Shared(connection.pgconn)
    elif hasattr(connection, "sync_session"):  # sqlalchemy.ext.asyncio.AsyncSession
        with _of_session(connection.sync_session) as opened:
            yield opened
    elif hasattr(connection, "sync_engine") and not hasattr(connection, "sync_connection"):  # AsyncEngine
        with _beside(connection.sync_engine) as opened:
            yield opened
    elif hasattr(connection, "sync_connection"):  # AsyncConnection, started or not
        with _of_async(connection.sync_connection, connection.sync_engine) as opened:
            yield opened
    elif hasattr(connection, "get_bind") and hasattr(connection, "connection"):  # sqlalchemy.orm.Session
        with driver_connection(connection.connection()) as opened:
            yield opened
    elif hasattr(connection, "dialect") and hasattr(connection, "connect"):  # sqlalchemy.Engine
        with connection.connect() as made, driver_connection(made) as opened:
            yield opened
    elif hasattr(connection, "dialect") and hasattr(connection, "connection"):  # sqlalchemy.Connection
        driver = connection.connection.driver_connection
        if isinstance(driver, psycopg.AsyncConnection):
            yield _Shared(driver.pgconn)
        else:
            # Inside run_sync, SQLAlchemy's DB-API adapter of another async driver works.
            yield connection.connection.dbapi_connection if connection.dialect.is_async else driver
    elif hasattr(connection, "cursor"):
        yield connection
    else:
        raise TypeError(
            "a connection must be a connection string, a driver's connection, or a sync or async Engine, Connection or "
            f"Session of SQLAlchemy, not {type(connection).__name__}"
        )


@contextmanager
def _of_session(session: Any) -> Iterator[Any]:
    """The connection of an async session's transaction; a separate one when the session has none yet."""
    from sqlalchemy.exc import MissingGreenlet

    bind = session.get_bind()
    made = None
    if session.in_transaction():
        try:
            made = session.connection()  # does not wait when the transaction already has its connection
        except MissingGreenlet:
            made = None
    with _of_async(made, getattr(bind, "engine", bind)) as opened:
        yield opened


@contextmanager
def _of_async(made: Any, engine: Any) -> Iterator[Any]:
    driver = None if made is None or made.closed else made.connection.driver_connection
    if isinstance(driver, psycopg.AsyncConnection):
        yield _Shared(driver.pgconn)
    elif driver is not None and made.in_transaction():
        raise TypeError(
            f"an async connection of {engine.dialect.driver} with an open transaction cannot be waited for here: write  "
            "await connection.run_sync(assert_uses_vector_index, statement) , or with a session  "
            "await (await session.connection()).run_sync(…)"
        )
    else:
        with _beside(engine) as opened:
            yield opened


@contextmanager
def _beside(engine: Any) -> Iterator[Any]:
    """A connection of our own to the engine's address: the test has not written anything in a transaction yet."""
    from everindex.alembic_kit.engine_address import conninfo_of_url

    with connect(conninfo_of_url(engine.url), application_name="everindex testing") as opened:
        yield opened
