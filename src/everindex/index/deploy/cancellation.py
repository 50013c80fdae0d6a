"""The cancellation of an operation: its running statement is cancelled, and its owner removes what is left behind.

A signal handler can stop it from outside the main thread (`beside`).
"""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: A cancel request is lost if no statement is running, so it is repeated until the operation has ended.
CANCEL_AGAIN_SECONDS = 0.5
CANCEL_TIMEOUT_SECONDS = 5.0


@contextmanager
def ended_by(stop: threading.Event | None, connection: Connection) -> Iterator[None]:
    """Inside the block, statements of `connection` are cancelled once `stop` is set; they raise QueryCanceled.

    A thread waits for the event meanwhile; without an event the block has no effect. Other connections of the same
    operation, such as that of a clean-up, are not affected.
    """
    if stop is None:
        yield
        return
    has_ended = threading.Event()
    thread = threading.Thread(target=_cancel, args=(stop, has_ended, connection), name="everindex-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join(CANCEL_TIMEOUT_SECONDS)


def _cancel(stop: threading.Event, has_ended: threading.Event, connection: Connection) -> None:
    while not stop.wait(CANCEL_AGAIN_SECONDS):
        if has_ended.is_set():
            return
    while not has_ended.is_set():
        try:
            connection.cancel_safe(timeout=CANCEL_TIMEOUT_SECONDS)
        except psycopg.Error as exc:
            log.debug("not cancelled: %s", type(exc).__name__, extra={"event": "cancel-failed"})
        has_ended.wait(CANCEL_AGAIN_SECONDS)


def beside(function: Callable[[], None]) -> None:
    """Calls `function` in a separate thread, for signal handlers, so that it may set an event and take locks.

    A handler runs in the main thread, between any two of its steps: `Event.set` there would wait for ever for a lock that the
    interrupted thread holds, either in `Event.wait` or in the handler of an earlier signal (`make` and `timeout` send signals
    in addition to the terminal's). `threading.Thread.start` takes locks itself; this function takes none.
    """
    _thread.start_new_thread(function, ())
