"""How does work end that is told to stop? Its running statement is cancelled; what it left is removed by who ran it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

#: A request to cancel that finds no statement running is lost; so it is made again and again until the work has ended.
CANCEL_AGAIN_SECONDS = 0.5
CANCEL_TIMEOUT_SECONDS = 5.0


@contextmanager
def ended_by(stop: threading.Event | None, connection: Connection) -> Iterator[None]:
    """Inside the block, statements of `connection` are cancelled once `stop` is set; they raise QueryCanceled.

    A thread waits for the event meanwhile; without an event the block is an ordinary one. Other connections of the same
    work, such as that of a clean-up, go on.
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
            log.debug("not cancelled: %s", type(exc).__name__)
        has_ended.wait(CANCEL_AGAIN_SECONDS)
