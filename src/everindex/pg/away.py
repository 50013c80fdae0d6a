"""Detection of a server that is down: one connection attempt on behalf of all sessions that wait in vain.

A pool whose connections are all in use and a pool whose server is away look the same from outside. Only one attempt runs at a
time, for all waiting sessions. A server that is about to come back is not away; one that accepts connections but never answers
(stopped, or frozen with its container) is. The same check runs when the answer to a statement does not arrive, since a long
statement and a stopped server look the same, too. A stopped server behind a pooler that answers itself is not detected.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, MutableMapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from everindex.errors import ServerSilent, ServerUnreachable
from everindex.pg import waiting
from everindex.pg.address import describe
from everindex.pg.pool import Pool
from everindex.pg.sqlstate import connect_error

K = TypeVar("K")

#: Seconds of waiting for a connection before the server is checked; the result is valid for as long, for all sessions.
LOOK_AFTER_SECONDS = 1.0
#: Seconds to wait while the server is known to be away, since the pool may have a connection again.
KNOWN_AWAY_SECONDS = 0.05
#: Maximum duration of a check; a loaded server accepts a connection within it.
LOOK_SECONDS = 3
#: "Away" remains valid until a later check has a result, for at most this time: while a new check is running, other sessions
#: neither wait nor get another error.
AWAY_HOLDS_SECONDS = LOOK_AFTER_SECONDS + LOOK_SECONDS + 1.0
#: If an answer takes this long, its server is checked, and again at the same interval until the answer arrives.
SILENT_SECONDS = 2.0
#: Messages of a server that is up and will accept connections soon.
_NOT_AWAY = ("starting up", "shutting down", "recovery")
#: Messages of an attempt that got no answer in time.
_SILENT = ("timeout", "timed out")

_ADDRESSES: WeakKeyDictionary[Pool, str] = WeakKeyDictionary()
_Looked = tuple[float, ServerUnreachable | None]
#: Time and result of the last check: for each pool (a new pool is created when its server is back), and for each address from
#: which connections await answers.
_LOOKED: WeakKeyDictionary[Pool, _Looked] = WeakKeyDictionary()
_LOOKED_AT_ADDRESS: dict[str, _Looked] = {}
_LOOKING = threading.Lock()


def remember_address(pool: Pool, conninfo: str) -> None:
    """Records the address that a pool connects to."""
    _ADDRESSES[pool] = conninfo


def first_wait(pool: Pool) -> float:
    """How many seconds to wait for a connection before calling `why_away`; checks nothing itself."""
    return LOOK_AFTER_SECONDS if known_away(pool) is None else KNOWN_AWAY_SECONDS


def known_away(pool: Pool) -> ServerUnreachable | None:
    """The result of the last check, while it is valid; checks nothing itself."""
    return _held(_LOOKED.get(pool))


def why_away(pool: Pool) -> ServerUnreachable | None:
    """The error that a new connection gets now; None if the server is up, or about to come back."""
    conninfo = _ADDRESSES.get(pool)
    return None if conninfo is None else waiting.beside(partial(_look, _LOOKED, pool, conninfo))


def require_answering(connection: psycopg.Connection[Any]) -> None:
    """Raises ServerSilent if the server of `connection`, from which an answer is due, does not answer new connections either."""
    info = connection.info
    conninfo = make_conninfo(info.dsn, password=info.password or None)
    silent = _look(_LOOKED_AT_ADDRESS, conninfo, conninfo)
    if silent is not None:
        raise ServerSilent(silent.what, why=silent.why, next_step=silent.next_step)


class WatchedConnection(psycopg.Connection[TupleRow]):
    """A connection whose server is looked at while an answer does not come. One that is silent leaves it closed."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        return self.wait_for(watched(self, gen), *args, **kwargs)

    def wait_for(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """As `wait`, for a generator that tells its `Silence` itself."""
        return super().wait(waiting.stoppable(self, gen), *args, **kwargs)

    def start_look(self, look: Callable[[], None]) -> Future[None]:
        """The result of `look`, which takes up to LOOK_SECONDS."""
        return waiting.done_here(look)


class Silence:
    """The time in which nothing has arrived on `connection`, made when a wait has ended without anything.

    psycopg reports at intervals that nothing has arrived (waiting.py, `interval`).
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._since = time.monotonic()
        self._look: Future[None] | None = None

    def goes_on(self) -> None:
        """Looks at the server every SILENT_SECONDS. Raises ServerSilent, with the connection closed."""
        if self._look is None and time.monotonic() - self._since > SILENT_SECONDS:
            start = getattr(self._connection, "start_look", waiting.done_here)
            self._look = start(partial(require_answering, self._connection))
        if self._look is not None and self._look.done():
            try:
                self._look.result()
            except ServerSilent:
                self._connection.close()
                raise
            self._look, self._since = None, time.monotonic()


def watched(connection: psycopg.Connection[Any], generator: PQGen[RV]) -> PQGen[RV]:
    """`generator`, and a look at the server of `connection` while its answer does not come. Raises as `Silence.goes_on`."""
    silence: Silence | None = None
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if ready:
                silence = None
            else:
                silence = silence or Silence(connection)
                silence.goes_on()
            wanted = generator.send(ready)
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
        why="connections are not refused, but the server does not answer: it is stopped, frozen, or unreachable.",
        next_step="check whether its processes run (ps shows state T for a stopped process, docker ps shows a paused "
        "container), and whether a firewall drops packets.",
    )


def _held(looked: _Looked | None) -> ServerUnreachable | None:
    return looked[1] if looked is not None and time.monotonic() - looked[0] <= AWAY_HOLDS_SECONDS else None


def _is_fresh(at: float) -> bool:
    return time.monotonic() - at <= LOOK_AFTER_SECONDS
