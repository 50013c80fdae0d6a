"""What the engine needs of a pool of connections, and how each of its connections is set up.

Whoever waits makes the pool: `connections.make_pool` for threads, `loop_pool.make_loop_pool` for an event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import psycopg
from psycopg.rows import TupleRow

from everindex.errors import NoConnectionFree
from everindex.pg import pooler

#: One attempt to connect may take this many seconds: a dropped packet must not use up the whole wait.
CONNECT_TIMEOUT_SECONDS = 5


class Pool(Protocol):
    """The part of `psycopg_pool.ConnectionPool` that the engine calls."""

    @property
    def timeout(self) -> float: ...
    def open(self) -> None: ...
    def close(self) -> None: ...
    def getconn(self, timeout: float | None = None) -> psycopg.Connection[TupleRow]: ...
    def putconn(self, conn: psycopg.Connection[TupleRow]) -> None: ...
    def check(self) -> None: ...
    def drain(self) -> None: ...
    def get_stats(self) -> dict[str, int]: ...


class MakePool(Protocol):
    """A function that makes a pool, as `connections.make_pool`."""

    def __call__(
        self,
        conninfo: str,
        *,
        size: int,
        configure: Callable[[psycopg.Connection[TupleRow]], None] | None = None,
        settings: dict[str, str | int] | None = None,
        reconnect_seconds: float = 300.0,
        reconnect_failed: Callable[[Pool], None] | None = None,
    ) -> Pool: ...


def pool_options(*, size: int, reconnect_seconds: float) -> dict[str, Any]:
    """The options of a psycopg pool, of either kind.

    The pool has one connection until more are needed at once: it hands them out in turn, and a connection that is used
    repeatedly has its plans and pages warm (a tenth of a search, docs/measurements/search.md).
    """
    return {
        "min_size": 1,
        "max_size": size,
        "kwargs": {
            "autocommit": True,
            "application_name": "everindex web",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        },
        "open": False,
        "timeout": 10.0,
        "reconnect_timeout": reconnect_seconds,
        "name": "everindex",
    }


def set_up(
    connection: psycopg.Connection[TupleRow],
    settings: dict[str, str | int] | None,
    configure: Callable[[psycopg.Connection[TupleRow]], None] | None,
) -> None:
    """Prepares a new connection of a pool: its route to the server, its limits, and what `configure` does."""
    pooler.look(connection)
    pooler.limit(connection, settings or {})
    if configure is not None:
        configure(connection)


def no_connection_free() -> NoConnectionFree:
    """The error of a call that has waited in vain."""
    return NoConnectionFree(
        "no connection to the database became free in time.",
        why="all connections of the pool are in use, or the server does not answer.",
        next_step="try again; raise EVERINDEX_POOL_SIZE if it happens under normal load.",
    )
