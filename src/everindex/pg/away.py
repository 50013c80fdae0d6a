"""Servers that are gone: whether anybody listens at a pool's address, asked by who waits for a connection in vain.

A pool whose connections are all in use and one whose server is away look alike from outside. One look at a time, for all who
wait. A server that is silent (stopped by a debugger, a dropped packet) or about to come back is not away.
"""

from __future__ import annotations

import threading
import time
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import ConnectionPool

from everindex.errors import ServerUnreachable
from everindex.pg.address import describe
from everindex.pg.sqlstate import connect_error

#: Who has waited so long for a connection looks; what was seen holds as long, for all.
LOOK_AFTER_SECONDS = 1.0
#: While the server is known to be away, one waits so long: the pool may have a connection again.
KNOWN_AWAY_SECONDS = 0.05
#: Words of a server that is there and takes connections soon, and of one that does not answer.
_NOT_AWAY = ("starting up", "shutting down", "recovery", "timeout", "timed out")

_ADDRESSES: WeakKeyDictionary[ConnectionPool[Any], str] = WeakKeyDictionary()
_LOOKED: WeakKeyDictionary[ConnectionPool[Any], tuple[float, ServerUnreachable | None]] = WeakKeyDictionary()
_LOOKING = threading.Lock()


def remember_address(pool: ConnectionPool[Any], conninfo: str) -> None:
    """Which address a pool connects to."""
    _ADDRESSES[pool] = conninfo


def first_wait(pool: ConnectionPool[Any]) -> float:
    """So many seconds a connection is waited for before `why_away` is asked; asks nobody."""
    looked = _LOOKED.get(pool)
    is_known = looked is not None and looked[1] is not None and _is_fresh(looked[0])
    return KNOWN_AWAY_SECONDS if is_known else LOOK_AFTER_SECONDS


def why_away(pool: ConnectionPool[Any]) -> ServerUnreachable | None:
    """The error of who connects now; None where the server is there, silent, or about to come back."""
    conninfo = _ADDRESSES.get(pool)
    if conninfo is None:
        return None
    with _LOOKING:
        looked = _LOOKED.get(pool)
        if looked is not None and _is_fresh(looked[0]):
            return looked[1]
        found: ServerUnreachable | None = None
        try:
            psycopg.connect(conninfo, application_name="everindex probe", connect_timeout=2).close()
        except psycopg.OperationalError as exc:
            error = connect_error(exc, where=describe(conninfo))
            if isinstance(error, ServerUnreachable) and not any(words in error.why.lower() for words in _NOT_AWAY):
                found = error
        _LOOKED[pool] = (time.monotonic(), found)
        return found


def _is_fresh(at: float) -> bool:
    return time.monotonic() - at <= LOOK_AFTER_SECONDS
