"""Connections to the server: single ones for commands, which can wait for a starting server, and pools for the web.

Driver errors leave here as everindex's own; passwords appear in none of them.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolTimeout

from everindex.errors import NoConnectionFree, ServerHostUnknown, ServerUnreachable
from everindex.pg import away, pooler, waiting
from everindex.pg.address import describe
from everindex.pg.address_text import checked
from everindex.pg.pool import CONNECT_TIMEOUT_SECONDS, Pool, no_connection_free, pool_options, set_up
from everindex.pg.sqlstate import connect_error, statement_error

log = logging.getLogger(__name__)

Connection = psycopg.Connection[TupleRow]

#: What pg_stat_activity.query says where the role may not see it; the other columns of such a row are NULL
#: (PostgreSQL, pg_stat_get_activity). After SET ROLE even the row of one's own session may be hidden.
HIDDEN_QUERY = "<insufficient privilege>"

#: A wait for a server is reported within a second, and then at intervals; without a wait, an attempt that takes long is.
FIRST_WORD_SECONDS, WORD_EVERY_SECONDS, LONG_ATTEMPT_SECONDS = 0.7, 10.0, 2.0


def connect(
    conninfo: str,
    *,
    wait_seconds: float = 0.0,
    application_name: str = "everindex",
    autocommit: bool = True,
    on_wait: Callable[[str, float], None] | None = None,
) -> Connection:
    """Opens a connection; a server that refuses connections or is starting up is tried again until `wait_seconds` are over.

    `on_wait(reason, seconds_left)` is called before every pause, and in a thread when an attempt takes longer than
    FIRST_WORD_SECONDS (without `wait_seconds`, LONG_ATTEMPT_SECONDS). The pause doubles from 0.1 s to 3 s, with jitter.
    Raises ServerUnreachable when the time is up, and immediately errors that waiting cannot cure: CredentialsRefused,
    DatabaseMissing, ServerHostUnknown.
    """
    deadline = time.monotonic() + wait_seconds
    pause = 0.1
    while True:
        try:
            with _no_answer_told(on_wait, deadline, FIRST_WORD_SECONDS if wait_seconds else LONG_ATTEMPT_SECONDS):
                return _open(conninfo, application_name=application_name, autocommit=autocommit)
        except psycopg.ProgrammingError:
            checked(conninfo, name="the address to connect to")
            raise
        except psycopg.OperationalError as exc:
            # The driver's message about an address that it misinterpreted may contain part of a password.
            checked(conninfo, name="the address to connect to")
            error = connect_error(exc, where=describe(conninfo))
            left = deadline - time.monotonic()
            if isinstance(error, ServerHostUnknown) or not isinstance(error, ServerUnreachable) or left <= 0:
                # `from None`: the driver's exception carries the connection and with it the password.
                raise error from None
            if on_wait is not None:
                on_wait(error.why, left)
            waiting.pause(min(pause * random.uniform(0.7, 1.0), left))  # jitter, not security
            pause = min(pause * 2, 3.0)


class WaitReport:
    """Reports waiting to a person, as `on_wait` of `connect`: at once, when the reason changes, and at intervals."""

    def __init__(self, tell: Callable[[str], None], *, where: str) -> None:
        self._tell = tell
        self._where = where
        self._last: tuple[str, float] | None = None

    def __call__(self, reason: str, seconds_left: float) -> None:
        if self._last is not None and self._last[0] == reason and time.monotonic() - self._last[1] < WORD_EVERY_SECONDS:
            return
        self._last = (reason, time.monotonic())
        self._tell(f"waiting for PostgreSQL, {self._where}, at most {max(seconds_left, 0):.0f} s more: {reason}")


@contextmanager
def _no_answer_told(
    on_wait: Callable[[str, float], None] | None, deadline: float, after_seconds: float
) -> Iterator[None]:
    """Reports slow attempts: a refusal is immediate, but if a firewall drops packets nothing happens until the attempt ends."""
    if on_wait is None:
        yield
        return

    def tell() -> None:
        on_wait("no answer so far", max(deadline - time.monotonic(), CONNECT_TIMEOUT_SECONDS - after_seconds))

    timer = threading.Timer(after_seconds, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _OneConnection(psycopg.Connection[TupleRow]):
    """A connection whose loss inside its `with` block is raised as ServerUnreachable; other errors are raised unchanged."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return super().wait(waiting.stoppable(self, gen), *args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_lost = self.broken
        super().__exit__(kind, error, trace)
        if is_lost and isinstance(error, psycopg.OperationalError):
            raise statement_error(error, doing="working on the database") from error


def _open(conninfo: str, *, application_name: str, autocommit: bool) -> Connection:
    connection = _OneConnection.connect(
        conninfo, autocommit=True, application_name=application_name, connect_timeout=CONNECT_TIMEOUT_SECONDS
    )
    try:
        # A pooler accepts connections even while its server is away, which is detected here.
        pooler.look(connection)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


#: Timeouts that an administrator may set for a role or a database, and that would interrupt an index build, or the session
#: that waits for one. transaction_timeout exists since PostgreSQL 17.
TIME_LIMITS = (
    "lock_timeout",
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)


def lift_time_limits(connection: Connection, *names: str) -> None:
    """Switches off the named timeouts for this session, or all of TIME_LIMITS; those that the server lacks are skipped.

    Behind a pooler that switches sessions, only for the open transaction; raises DirectAddressNeeded if there is none.
    """
    connection.execute(
        "SELECT pg_catalog.set_config(name, '0', %s) FROM pg_catalog.pg_settings WHERE name = ANY(%s)",
        (not pooler.has_session_settings(connection), list(names or TIME_LIMITS)),
    )


def make_pool(
    conninfo: str,
    *,
    size: int,
    configure: Callable[[Connection], None] | None = None,
    settings: dict[str, str | int] | None = None,
    reconnect_seconds: float = 300.0,
    reconnect_failed: Callable[[Pool], None] | None = None,
) -> ConnectionPool[Connection]:
    """A pool of autocommit connections named `everindex web`, not opened yet; the caller closes it.

    `settings` apply to `roundtrip.run`, and to other statements in a block of `pooler.limited`. `reconnect_failed` is called,
    in a thread of the pool, when no new connection could be opened for `reconnect_seconds`.
    """
    pool = ConnectionPool[Connection](
        conninfo,
        connection_class=away.WatchedConnection,
        configure=partial(set_up, settings=settings, configure=configure),
        reconnect_failed=reconnect_failed,
        **pool_options(size=size, reconnect_seconds=reconnect_seconds),
    )
    away.remember_address(pool, conninfo)
    return pool


def take(pool: Pool, *, seconds: float | None = None) -> Connection:
    """A connection of the pool, which the caller returns with `putconn`. Raises NoConnectionFree after `seconds`, by default
    the pool's timeout; within about a second if no process listens at the server's address."""
    limit = pool.timeout if seconds is None else seconds
    first = min(limit, away.first_wait(pool))
    try:
        return pool.getconn(first)
    except PoolTimeout:
        gone = away.why_away(pool)
        if gone is not None:
            raise NoConnectionFree(gone.what, why=gone.why, next_step=gone.next_step) from None
    try:
        return pool.getconn(max(limit - first, 0.001))
    except PoolTimeout:
        raise no_connection_free() from None


@contextmanager
def borrowed(pool: Pool, *, seconds: float | None = None) -> Iterator[Connection]:
    """A connection of the pool for the duration of the block. Raises NoConnectionFree as `take` does."""
    connection = take(pool, seconds=seconds)
    try:
        yield connection
    finally:
        pool.putconn(connection)
