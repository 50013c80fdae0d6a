"""Poolers between a connection and its server: detected, and whether they leave the connection its session.

A pooler such as PgBouncer makes up the process number that a connection receives at its start, because it may change the
server session behind it; the session itself knows its own. In transaction mode every transaction may run in another
session: prepared statements, SET and session locks would be lost, or found by somebody else (docs/decisions/0009).
"""

from __future__ import annotations

import select
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

Session = psycopg.Connection[Any]

#: A pooler whose server is away takes connections all the same, and lets their first statement wait (PgBouncer:
#: query_wait_timeout, two minutes). After so long the server counts as unreachable.
LOOK_SECONDS = 10.0
#: A pooler that has no second server session free lets the question wait, too; after so long that is the answer.
PROBE_SECONDS = 3.0
#: Which of two idle connections is asked for its session, one after the other. PgBouncer hands out the session that was
#: given back last, or takes turns (server_round_robin): in either order one of the two changes its session, or shares it.
PROBE_ORDER = (0, 1, 0, 0, 1, 1, 0, 1, 1, 0)
_PID = "SELECT pg_catalog.pg_backend_pid()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How a connection reaches its server."""

    is_pooled: bool
    server_pid: int
    """The process number of its session at the server; with a pooler, of the session at the time of the look."""

    limits: tuple[tuple[str, str], ...] = ()
    """Settings that hold for all that runs on it; behind a pooler every transaction brings them along."""


_ROUTES: WeakKeyDictionary[Session, Route] = WeakKeyDictionary()
_KEEPS_SESSION: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()


def route_of(connection: Session) -> Route:
    """How this connection reaches its server; asks at the first time, in one round trip."""
    return _ROUTES.get(connection) or look(connection)


def look(connection: Session) -> Route:
    """Asks how this connection reaches its server. Through a pooler nothing is prepared on it from then on.

    Raises psycopg.OperationalError, also when no answer came in LOOK_SECONDS; the connection is of no use then.
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
    """Gives a connection of a pool its settings: to the session where it is ours, else to each of its transactions."""
    limits = tuple((name, str(value)) for name, value in settings.items())
    route = _ROUTES[connection] = replace(route_of(connection), limits=limits)
    if not route.is_pooled:
        for name, value in limits:
            connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


@contextmanager
def limited(connection: Session) -> Iterator[None]:
    """The block runs under the connection's settings; through a pooler it is one transaction, which brings them along.

    A statement that fails inside of it ends the whole block there, unless it has a transaction of its own.
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
    """The block has one session of the server for itself: behind a pooler, because it is one transaction."""
    if not route_of(connection).is_pooled or _is_in_transaction(connection):
        yield
        return
    with connection.transaction():
        yield


def has_session_settings(connection: Session) -> bool:
    """True where a setting made with SET would stay with this connection; False inside `one_session` behind a pooler,
    where it has to be transaction-local. Raises DirectAddressNeeded where it would end up in a stranger's session."""
    if not route_of(connection).is_pooled:
        return True
    if _is_in_transaction(connection):
        return False
    require_session(connection)
    return True


def require_session(connection: Session) -> None:
    """Raises DirectAddressNeeded unless this connection has a session of the server for itself until it is closed."""
    if not keeps_session(connection):
        # describe() would do, but the address module reads settings, which know nothing of this connection.
        info = connection.info
        raise DirectAddressNeeded(
            "this needs a session of the server for itself, and the address leads through a pooler that gives none.",
            why=f"database {info.dbname} at {info.host or 'the local socket'}:{info.port} is behind a pooler in transaction "
            "mode, or one without a free session: a lock or setting of ours would end up in the session of another client.",
            next_step="set DATABASE_URL_DIRECT to the server's own address, then run the same command again; searches "
            "and imports go on through the pooler. Nothing was changed.",
        )


def keeps_session(connection: Session) -> bool:
    """Whether the session stays the same until the connection is closed. Through a pooler that is found out with two more
    connections, which are closed again; raises psycopg.OperationalError where they cannot be made."""
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
    """The process number of the session. Raises psycopg.OperationalError when it did not come in time."""
    conn = connection.pgconn
    conn.send_query(_PID.encode())
    while conn.flush():
        conn.consume_input()
    pid: int | None = None
    while True:
        while conn.is_busy():
            left = deadline - time.monotonic()
            waiter = select.poll()
            waiter.register(conn.socket, select.POLLIN)
            if left <= 0 or not waiter.poll(left * 1000):
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
