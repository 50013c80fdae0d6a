"""Reads over a replica where there is one, otherwise over the primary; a read changes nothing, so it may be repeated.

The rules are those of docs/decisions/0010.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import PoolClosed

from everindex.errors import (
    ColumnMismatch,
    EverindexError,
    NoConnectionFree,
    NotMigrated,
    ReadOnlyServer,
    ServerSilent,
    ServerUnreachable,
)
from everindex.pg.connections import Connection, borrowed, take
from everindex.pg.pool import Pool
from everindex.pg.pooler import limited, route_of
from everindex.pg.replica import Replica
from everindex.pg.sqlstate import sqlstate_of, translate_errors

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How long a read waits for a connection to a replica before it goes to the primary.
REPLICA_WAIT_SECONDS = 1.0
#: How long after a write of this process its reads go to the primary if the replica has not replayed the write. After
#: that a lagging replica is read nevertheless: the primary alone may not carry the load of several servers.
OWN_WRITES_SECONDS = 30.0

#: A standby cancels a query that conflicts with replay (hot standby, "conflict with recovery"); a catalog row that
#: vanishes during a read causes an internal error. Repeating the same read succeeds.
ASKED_AGAIN = ("40001", "40P01", "XX000")

Trouble = Literal["conflict", "lost", "behind"]

_REPLAYED = """
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                ELSE pg_catalog.pg_current_wal_insert_lsn() END >= %s::pg_lsn
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The server that answers reads at the moment."""

    is_replica: bool
    reason: str | None
    """Why it is not the replica; None where no replica is configured."""

    def as_dict(self) -> dict[str, Any]:
        return {"from": "replica" if self.is_replica else "primary", "reason": self.reason}


@dataclass(frozen=True, slots=True)
class _OwnWrite:
    """The write-ahead log position after a write of this process; None where it could not be read."""

    position: str | None
    until: float


class Reading:
    """The connections that searches and article reads use; safe to use from many threads. The pools are the caller's."""

    def __init__(self, pool: Pool, replica: Replica | None = None) -> None:
        self._pool = pool
        self._replica = replica
        self._own_write: _OwnWrite | None = None
        self._replayed: WeakKeyDictionary[Connection, _OwnWrite] = WeakKeyDictionary()

    def ask(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, called with a connection. It may be called up to four times, so it must only read and return.

        For statements of `roundtrip.run`, which sets the time limit itself; others use `read`. Raises what `work`
        raises, and ServerUnreachable when no connection is free or can be made in time.
        """
        pool = self._replica.pool if self._replica is not None else None
        if pool is not None:
            try:
                return self._ask_replica(pool, work)
            except _AskPrimary as exc:
                log.info("read-on-primary: %s", exc, extra={"event": "read-on-primary"})
        return self._ask_primary(work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Like `ask`, for statements of any kind: `work` runs under the time limit of the settings."""

        def within_limits(connection: Connection) -> T:
            with limited(connection):
                return work(connection)

        return self.ask(within_limits)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection for reads that are not repeated. Raises ServerUnreachable."""
        with ExitStack() as stack:
            connection = self._borrow(stack)
            stack.enter_context(limited(connection))
            yield connection

    def source(self) -> Source:
        """The server that answers reads at the moment; does not connect."""
        if self._replica is None:
            return Source(is_replica=False, reason=None)
        return Source(is_replica=self._replica.pool is not None, reason=self._replica.reason)

    def note_write(self, connection: Connection) -> None:
        """Notes a write over `connection` to the primary, so that later reads see it."""
        if self._replica is None:
            return
        until = time.monotonic() + OWN_WRITES_SECONDS
        try:
            row = connection.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
        except psycopg.Error:  # the write may have been the last thing that the connection did
            row = None
        self._own_write = _OwnWrite(row[0] if row else None, until)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _borrow(self, stack: ExitStack) -> Connection:
        pool = self._replica.pool if self._replica is not None else None
        if pool is not None:
            with suppress(NoConnectionFree, PoolClosed):
                return stack.enter_context(borrowed(pool, seconds=REPLICA_WAIT_SECONDS))
        return stack.enter_context(borrowed(self._pool))

    def _ask_primary(self, work: Callable[[Connection], T]) -> T:
        try:
            return _over(self._pool, work)
        except (NoConnectionFree, ServerSilent):
            raise
        except (EverindexError, psycopg.Error) as exc:
            match _trouble(exc):
                case "lost":
                    # The server was restarted or closed idle connections: try once more, over checked connections.
                    log.info("connection-lost: a read is repeated: %s", _why(exc), extra={"event": "connection-lost"})
                    self._pool.check()
                case "conflict":
                    log.info("read-repeated: %s", _why(exc), extra={"event": "read-repeated"})
                case _:
                    raise
        return _over(self._pool, work)

    def _ask_replica(self, pool: Pool, work: Callable[[Connection], T]) -> T:
        """Reads from the replica, and once more where that may help. Raises _AskPrimary where it does not."""

        def up_to_date(connection: Connection) -> T:
            if not self._has_own_writes(connection):
                raise _AskPrimary("the replica has not yet replayed this process's last write")
            return work(connection)

        try:
            return _over(pool, up_to_date, seconds=REPLICA_WAIT_SECONDS)
        except (NoConnectionFree, PoolClosed) as exc:
            raise _AskPrimary("no connection to the replica was free in time") from exc
        except ServerSilent as exc:
            if self._replica is not None:
                self._replica.lost(pool, f"{self._replica.where} does not answer: {exc.why}")
            raise _AskPrimary(exc.why) from exc
        except (EverindexError, psycopg.Error) as exc:
            first = _trouble(exc)
            if first is None:
                raise
            if first == "behind":
                raise _AskPrimary(_why(exc)) from exc
            log.info("replica-%s: a read is repeated: %s", first, _why(exc), extra={"event": "replica-read-repeated"})
        if first == "lost":
            with suppress(PoolClosed):  # by another thread, which has found the replica gone
                pool.check()
        try:
            return _over(pool, up_to_date, seconds=REPLICA_WAIT_SECONDS)
        except (EverindexError, psycopg.Error) as exc:
            again = _trouble(exc)
            if again is None:
                raise
            if first == again == "lost" and self._replica is not None:
                self._replica.lost(pool, f"{self._replica.where} went away: {_why(exc)}")
            raise _AskPrimary(_why(exc)) from exc

    def _has_own_writes(self, connection: Connection) -> bool:
        """Whether the server of `connection` has this process's last write; checked once on each connection."""
        own = self._own_write
        if own is None or self._replayed.get(connection) is own:
            return True
        if time.monotonic() > own.until:
            log.warning("replica-behind: reads go to it again, although it lacks this process's write of %.0f s ago",
                        OWN_WRITES_SECONDS, extra={"event": "replica-behind"})  # fmt: skip
            self._own_write = None
            return True
        if own.position is None:
            return False
        with translate_errors("reading the replay position of the replica"):
            row = connection.execute(_REPLAYED, (own.position,)).fetchone()
        has_it = row is not None and bool(row[0])
        if has_it and not route_of(connection).is_pooled:  # behind a pooler the next session may be another server's
            self._replayed[connection] = own
        return has_it


class _AskPrimary(Exception):
    """The replica cannot answer this read."""


def _over(pool: Pool, work: Callable[[Connection], T], *, seconds: float | None = None) -> T:
    connection = take(pool, seconds=seconds)
    try:
        return work(connection)
    finally:
        pool.putconn(connection)


def _trouble(exc: EverindexError | psycopg.Error) -> Trouble | None:
    """The kind of failure of a read that repeating it, or another server, may solve; None for others."""
    state = sqlstate_of(exc)
    if state in ASKED_AGAIN:
        return "conflict"
    if isinstance(exc, ServerUnreachable):
        return "lost"
    if isinstance(exc, psycopg.OperationalError) and (not state or (state[:2] in ("08", "57") and state != "57014")):
        return "lost"
    # A replica may not have replayed a migration yet, and statements that must write cannot run there.
    return "behind" if isinstance(exc, NotMigrated | ColumnMismatch | ReadOnlyServer) else None


def _why(exc: EverindexError | psycopg.Error) -> str:
    if isinstance(exc, EverindexError):
        return exc.why
    return f"{exc.diag.message_primary or type(exc).__name__} (SQLSTATE {exc.sqlstate or 'none'})."
