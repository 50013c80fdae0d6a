"""The two ways in which the engine waits: its thread blocks, or its greenlet lets an event loop go on meanwhile.

The engine is written once, as plain calls. What it waits for goes through psycopg's `Connection.wait`, through a pool, or
through this module, and only those know which of the two it is. An event loop's side is `pg/on_loop.py`, which installs
itself here when it is imported; without it nothing of asyncio or greenlet runs.

Work in a thread that somebody may cancel is stopped here, too: at its next wait for the server, as Ctrl-C would.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg.abc import RV, PQGen

T = TypeVar("T")

#: A statement that is cancelled has this long to end; then its connection is closed.
CANCEL_SECONDS = 3.0


class Stopped(KeyboardInterrupt):
    """The work of this thread is no longer wanted. Like Ctrl-C it is raised once: what cleans up may use the server."""


class Stop:
    """Whether the work of one thread is still wanted; set from another one."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._is_raised = False

    def set(self) -> None:
        self._is_set.set()

    @property
    def is_due(self) -> bool:
        """True once it is set, until `raise_due` has raised."""
        return self._is_set.is_set() and not self._is_raised

    def raise_due(self) -> None:
        """Raises Stopped, once, after it was set."""
        if self.is_due:
            self._is_raised = True
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleeps, unless it is set. Raises Stopped as `raise_due`."""
        if self._is_raised:
            time.sleep(seconds)
        else:
            self._is_set.wait(seconds)
            self.raise_due()


#: Set where somebody may cancel the work of this thread.
STOP: ContextVar[Stop | None] = ContextVar("everindex_stop", default=None)


class Waiter(Protocol):
    """An event loop, as seen by the greenlet that waits."""

    def until_readable(self, fileno: int, seconds: float) -> bool: ...
    def beside(self, work: Callable[[], Any], *, uses_connection: bool) -> Any: ...


#: Finds the event loop on which the caller runs in a greenlet; None where it may block its thread.
find_waiter: Callable[[], Waiter | None] = lambda: None  # noqa: E731


def beside(work: Callable[[], T], *, uses_connection: bool = False) -> T:
    """What `work` returns, which may block or compute for long: run here, or in a thread where an event loop would wait.

    Work that `uses_connection` has ended when this returns, also when the caller is cancelled; other work may go on.
    """
    waiter = find_waiter()
    if waiter is None:
        return work()
    result: T = waiter.beside(work, uses_connection=uses_connection)
    return result


def until_readable(fileno: int, seconds: float) -> bool:
    """Waits for the socket; False where nothing arrived in `seconds`. select() would refuse a descriptor of 1,024
    (FD_SETSIZE) and more."""
    waiter = find_waiter()
    if waiter is not None:
        return waiter.until_readable(fileno, seconds)
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(max(seconds, 0) * 1000))


def pause(seconds: float) -> None:
    """Sleeps. Raises Stopped once the work of this thread is no longer wanted."""
    stop = STOP.get()
    if stop is None:
        time.sleep(seconds)
    else:
        stop.pause(seconds)


def stoppable(connection: psycopg.Connection[Any], generator: PQGen[RV]) -> PQGen[RV]:
    """The generator; where the work of this thread can be cancelled, one that then cancels its statement on the server and
    raises Stopped."""
    stop = STOP.get()
    return generator if stop is None else _stoppable(connection, generator, stop)


def _stoppable(connection: psycopg.Connection[Any], generator: PQGen[RV], stop: Stop) -> PQGen[RV]:
    until: float | None = None
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if until is None and stop.is_due:
                until = time.monotonic() + CANCEL_SECONDS
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=CANCEL_SECONDS)
            elif until is not None and time.monotonic() > until:
                connection.close()
                break
            wanted = generator.send(ready)
    except StopIteration as done:
        stop.raise_due()
        result: RV = done.value
        return result
    except psycopg.Error:
        if until is None:
            raise
    stop.raise_due()
    raise AssertionError("only what was to be stopped ends here")


def done_here(work: Callable[[], T]) -> Future[T]:
    """The result of `work`, which has run in this thread."""
    done: Future[T] = Future()
    try:
        done.set_result(work())
    except Exception as exc:  # whoever asks for the result gets it
        done.set_exception(exc)
    return done
