"""Poolers between a connection and its server: their detection, and whether a connection keeps its server session.

A pooler such as PgBouncer makes up the process ID that a connection receives when it is opened, because it may switch the
server session behind it; the session itself knows its own. In transaction mode every transaction may run in a different
session: prepared statements, SET and session locks would be lost, or affect other clients (docs/decisions/0009).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from everindex.errors import DirectAddressNeeded
from everindex.pg import waiting

Session = psycopg.Connection[Any]

#: A pooler whose server is away still accepts connections, and lets their first statement wait (PgBouncer:
#: query_wait_timeout, two minutes). After this time the server counts as unreachable.
LOOK_SECONDS = 10.0
#: A pooler without a second free server session lets the query wait, too; after this time that is the result.
PROBE_SECONDS = 3.0
#: The order in which two idle connections query their sessions. PgBouncer hands out the session that was returned last, or
#: takes turns (server_round_robin): with this order, either way one of the two connections changes its session or shares it.
PROBE_ORDER = (0, 1, 0, 0, 1, 1, 0, 1, 1, 0)
_PID = "SELECT pg_catalog.pg_backend_pid()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a connection reaches its server."""

    is_pooled: bool
    server_pid: int
    """The process ID of its server session; with a pooler, of the session at the time of the check."""

    limits: tuple[tuple[str, str], ...] = ()
    """Settings for everything that runs on it; behind a pooler every transaction applies them."""


_ROUTES: WeakKeyDictionary[Session, Route] = WeakKeyDictionary()
_KEEPS_SESSION: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()


def route_of(connection: Session) -> Route:
    """How this connection reaches its server; determined on first use, in one round trip."""
    return _ROUTES.get(connection) or look(connection)


def look(connection: Session) -> Route:
    """Determines how this connection reaches its server. Through a pooler nothing is prepared on it from then on.

    Raises psycopg.OperationalError, also when no answer arrives within LOOK_SECONDS; the connection is then unusable.
    """
    pid = _ask(connection, time.monotonic() + LOOK_SECONDS)
    before = _ROUTES.get(connection)
    route = Route(
        is_pooled=pid != connection.info.backend_pid,
        server_pid=pid,
        limits=before.limits if before is not None else (),
    )
    if route.is_pooled:
        connection.prepare_threshold = None
    remember(connection, route)
    return route


def remember(connection: Session, route: Route) -> None:
    """From here on this is how the connection reaches its server, until it is looked at again."""
    _ROUTES[connection] = route


def limit(connection: Session, settings: dict[str, str | int]) -> None:
    """Sets the settings of a pool's connection: for the session if it is ours, otherwise for each of its transactions."""
    limits = tuple((name, str(value)) for name, value in settings.items())
    route = _ROUTES[connection] = replace(route_of(connection), limits=limits)
    if not route.is_pooled:
        for name, value in limits:
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


@contextmanager
def limited(connection: Session) -> Iterator[None]:
    """Runs the block under the connection's settings; through a pooler it is one transaction, which applies them.

    There, a statement that fails inside it ends the whole block, unless it has its own transaction.
    """
    route = route_of(connection)
    if not route.is_pooled or _is_in_transaction(connection):
        yield
        return
    with connection.transaction():
        for name, value in route.limits:
            connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
        yield


@contextmanager
def one_session(connection: Session) -> Iterator[None]:
    """Gives the block one server session to itself: behind a pooler, by running it as one transaction."""
    if not route_of(connection).is_pooled or _is_in_transaction(connection):
        yield
        return
    with connection.transaction():
        yield


def has_session_settings(connection: Session) -> bool:
    """True if a setting made with SET would stay with this connection; False inside `one_session` behind a pooler, where it
    must be transaction-local. Raises DirectAddressNeeded if it would end up in another client's session."""
    if not route_of(connection).is_pooled:
        return True
    if _is_in_transaction(connection):
        return False
    require_session(connection)
    return True


def require_session(connection: Session) -> None:
    """Raises DirectAddressNeeded unless this connection has a server session to itself until it is closed."""
    if not keeps_session(connection):
        # describe() is not used because the address module reads settings, which do not know this connection.
        info = connection.info
        raise DirectAddressNeeded(
            "this operation needs its own server session, but the address leads through a pooler that does not provide one.",
            why=f"database {info.dbname} at {info.host or 'the local socket'}:{info.port} is behind a pooler in transaction "
            "mode, or one without a free session: our locks and settings would end up in another client's session.",
            next_step="set DATABASE_URL_DIRECT to the server's own address, then run the same command again; searches "
            "and imports continue to use the pooler. Nothing was changed.",
        )


def keeps_session(connection: Session) -> bool:
    """Whether the session stays the same until the connection is closed. Through a pooler this is determined with two more
    connections, which are closed again; raises psycopg.OperationalError if they cannot be opened."""
    known = _KEEPS_SESSION.get(connection)
    if known is None:
        known = not route_of(connection).is_pooled or _is_kept(connection)
        _KEEPS_SESSION[connection] = known
    return known


def _is_kept(connection: Session) -> bool:
    conninfo = make_conninfo(connection.info.dsn, password=connection.info.password or None)
    deadline = time.monotonic() + PROBE_SECONDS
    found: list[int | None] = [None, None]
    with _opened(conninfo) as first, _opened(conninfo) as second:
        for number in PROBE_ORDER:
            try:
                pid = _ask(first if number == 0 else second, deadline)
            except psycopg.OperationalError:
                return False
            if pid == found[1 - number] or found[number] not in (None, pid):
                return False
            found[number] = pid
    return True


@contextmanager
def _opened(conninfo: str) -> Iterator[Session]:
    opened = psycopg.connect(conninfo, autocommit=True, application_name="everindex pooler probe")
    try:
        yield opened
    finally:
        opened.close()


def _ask(connection: Session, deadline: float) -> int:
    """The process ID of the session. Raises psycopg.OperationalError when it does not arrive in time."""
    conn = connection.pgconn
    conn.send_query(_PID.encode())
    while conn.flush():
        conn.consume_input()
    pid: int | None = None
    while True:
        while conn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.until_readable(conn.socket, left):
                raise psycopg.OperationalError("the server answers no statement (a pooler may wait for it)")
            conn.consume_input()
        result = conn.get_result()
        if result is None:
            break
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(result.get_error_message(connection.info.encoding).strip())
        pid = int(result.get_value(0, 0) or b"0")
    if pid is None:
        raise psycopg.OperationalError(conn.get_error_message(connection.info.encoding).strip())
    return pid


def _is_in_transaction(connection: Session) -> bool:
    return connection.info.transaction_status != pq.TransactionStatus.IDLE
