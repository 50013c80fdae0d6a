"""Detection of a server that is down: one connection attempt on behalf of all sessions that wait in vain.

A pool whose connections are all in use and one whose server is away look alike from outside. One look at a time, for all who
wait. A server that is about to come back is not away; one that takes connections and never answers (stopped, or frozen with
its container) is. Who waits in vain for the answer to a statement asks the same: a long statement and a stopped server look
alike, too. Behind a pooler that answers for itself a stopped server is not seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import MutableMapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from everindex.errors import ServerSilent, ServerUnreachable
from everindex.pg.address import describe
from everindex.pg.sqlstate import connect_error

K = TypeVar("K")

#: After waiting so long for a connection one looks; the result holds as long, for all.
LOOK_AFTER_SECONDS = 1.0
#: While the server is known to be away, one waits so long: the pool may have a connection again.
KNOWN_AWAY_SECONDS = 0.05
#: A look takes at most so long: a loaded server accepts a connection within it.
LOOK_SECONDS = 3
#: "Away" holds until a later look has an answer, at most so long: while one looks again, nobody else waits or is told
#: something else.
AWAY_HOLDS_SECONDS = LOOK_AFTER_SECONDS + LOOK_SECONDS + 1.0
#: An answer that does not come for so long has its server looked at, and again as often until it is there.
SILENT_SECONDS = 2.0
#: Words of a server that is there and takes connections soon.
_NOT_AWAY = ("starting up", "shutting down", "recovery")
#: Words of an attempt that nobody answered in time.
_SILENT = ("timeout", "timed out")

_ADDRESSES: WeakKeyDictionary[ConnectionPool[Any], str] = WeakKeyDictionary()
_Looked = tuple[float, ServerUnreachable | None]
#: When it was looked at, and what was found: for each pool (a new one to the same server is made when that is back), and for
#: each address that connections owe answers from.
_LOOKED: WeakKeyDictionary[ConnectionPool[Any], _Looked] = WeakKeyDictionary()
_LOOKED_AT_ADDRESS: dict[str, _Looked] = {}
_LOOKING = threading.Lock()


def remember_address(pool: ConnectionPool[Any], conninfo: str) -> None:
    """Which address a pool connects to."""
    _ADDRESSES[pool] = conninfo


def first_wait(pool: ConnectionPool[Any]) -> float:
    """So many seconds a connection is waited for before `why_away` is asked; asks nobody."""
    return LOOK_AFTER_SECONDS if known_away(pool) is None else KNOWN_AWAY_SECONDS


def known_away(pool: ConnectionPool[Any]) -> ServerUnreachable | None:
    """What the last look has found, as long as that holds; asks nobody."""
    return _held(_LOOKED.get(pool))


def why_away(pool: ConnectionPool[Any]) -> ServerUnreachable | None:
    """The error of who connects now; None where the server is there, or about to come back."""
    conninfo = _ADDRESSES.get(pool)
    return None if conninfo is None else _look(_LOOKED, pool, conninfo)


def require_answering(connection: psycopg.Connection[Any]) -> None:
    """Raises ServerSilent where the server of `connection`, which owes an answer, does not answer anybody else either."""
    info = connection.info
    conninfo = make_conninfo(info.dsn, password=info.password or None)
    silent = _look(_LOOKED_AT_ADDRESS, conninfo, conninfo)
    if silent is not None:
        raise ServerSilent(silent.what, why=silent.why, next_step=silent.next_step)


class WatchedConnection(psycopg.Connection[TupleRow]):
    """A connection whose server is looked at while an answer does not come. One that is silent leaves it closed."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: PQGen[RV]) -> PQGen[RV]:
        """psycopg learns at intervals that nothing has arrived (waiting.py, `interval`)."""
        try:
            wanted = next(gen)
            since = time.monotonic()
            while True:
                ready = yield wanted
                if ready:
                    since = time.monotonic()
                elif time.monotonic() - since > SILENT_SECONDS:
                    try:
                        require_answering(self)
                    except ServerSilent:
                        self.close()
                        raise
                    since = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as done:
            result: RV = done.value
            return result


def _look(known: MutableMapping[K, _Looked], key: K, conninfo: str) -> ServerUnreachable | None:
    if not _LOOKING.acquire(blocking=False):
        held = _held(known.get(key))
        if held is not None:
            return held
        _LOOKING.acquire()
    try:
        looked = known.get(key)
        if looked is not None and _is_fresh(looked[0]):
            return looked[1]
        found: ServerUnreachable | None = None
        try:
            psycopg.connect(conninfo, application_name="everindex probe", connect_timeout=LOOK_SECONDS).close()
        except psycopg.OperationalError as exc:
            error = connect_error(exc, where=describe(conninfo))
            if isinstance(error, ServerUnreachable) and not any(words in error.why.lower() for words in _NOT_AWAY):
                found = _silent(error) if any(words in error.why.lower() for words in _SILENT) else error
        known[key] = (time.monotonic(), found)
        return found
    finally:
        _LOOKING.release()


def _silent(error: ServerUnreachable) -> ServerUnreachable:
    return type(error)(
        error.what,
        why="the server takes connections, or nothing refuses them, and nobody answers: it is stopped, frozen, or cut off.",
        next_step="see whether its processes run (a stopped process has state T in ps, a paused container says so), and "
        "whether a firewall drops packets.",
    )


def _held(looked: _Looked | None) -> ServerUnreachable | None:
    return looked[1] if looked is not None and time.monotonic() - looked[0] <= AWAY_HOLDS_SECONDS else None


def _is_fresh(at: float) -> bool:
    return time.monotonic() - at <= LOOK_AFTER_SECONDS
