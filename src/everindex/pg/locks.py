"""Session-level advisory locks, obtained by polling and never by a statement that waits.

A blocked `pg_advisory_lock()` is a running statement with a snapshot, and CREATE INDEX CONCURRENTLY waits for every
older snapshot: the two deadlock (docs/decisions/0003). Polling with short autocommit statements holds no snapshot.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from everindex.errors import LockNotObtained
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.pooler import require_session
from everindex.pg.sqlstate import translate_errors

LockName = Literal["migrate", "own-schema", "build", "keeper", "aside"]

#: First half of every key: "ever" in ASCII. Advisory locks belong to one database, so the second half may be small.
LOCK_CLASS = 0x65766572
LOCK_IDS: dict[LockName, int] = {"migrate": 1, "own-schema": 2, "build": 3, "keeper": 4, "aside": 5}


@contextmanager
def advisory_lock(
    conninfo: str,
    name: LockName,
    *,
    wait_seconds: float,
    poll_seconds: float = 0.2,
    on_wait: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """Holds the lock `name` of this database on a separate connection, which is closed at the end.

    `on_wait(holder)` is called once, if another session holds it. Raises LockNotObtained after `wait_seconds`, naming the
    holder, or as soon as `stop` is set. If the holder dies, the lock is released, since the server ends its session.
    """
    with connect(conninfo, application_name=f"everindex lock {name}") as connection:
        with translate_errors(f"taking lock {name}"):
            # This session is idle while its owner builds for hours, and the lock ends with it.
            lift_time_limits(connection)
            _poll(connection, name, wait_seconds=wait_seconds, poll_seconds=poll_seconds, on_wait=on_wait, stop=stop)
        yield


def _poll(
    connection: Connection,
    name: LockName,
    *,
    wait_seconds: float,
    poll_seconds: float,
    on_wait: Callable[[str], None] | None,
    stop: threading.Event | None,
) -> None:
    deadline = time.monotonic() + wait_seconds
    looks = 0
    while True:
        if try_lock(connection, name):
            return
        holder = holder_of(connection, name) or "a process that has just ended"
        if time.monotonic() >= deadline or (stop is not None and stop.is_set()):
            raise LockNotObtained(
                f"another process is working on this database (lock {name!r}).",
                why=f"{holder} has held it for longer than the {wait_seconds:.0f} s that this one may wait.",
                next_step="wait for it to end, then run the same command again; nothing was changed by this one.",
            )
        # Not at the first attempt: a session that has just closed releases its locks a moment later.
        if on_wait is not None and looks == 1:
            on_wait(holder)
        looks += 1
        time.sleep(poll_seconds)


def try_lock(connection: Connection, name: LockName, *, is_shared: bool = False) -> bool:
    """Takes the lock for the rest of the session of `connection` if it is free; a shared lock if no exclusive one is held.

    Raises DirectAddressNeeded behind a pooler that switches sessions: another client's session would hold the lock for hours.
    """
    require_session(connection)
    statement = "SELECT pg_try_advisory_lock_shared(%s, %s)" if is_shared else "SELECT pg_try_advisory_lock(%s, %s)"
    row = connection.execute(statement, (LOCK_CLASS, LOCK_IDS[name])).fetchone()
    return row is not None and bool(row[0])


def unlock(connection: Connection, name: LockName, *, is_shared: bool = False) -> None:
    """Releases a lock that `try_lock` took on this connection."""
    statement = "SELECT pg_advisory_unlock_shared(%s, %s)" if is_shared else "SELECT pg_advisory_unlock(%s, %s)"
    connection.execute(statement, (LOCK_CLASS, LOCK_IDS[name]))


def holder_of(connection: Connection, name: LockName) -> str | None:
    """The holder of the lock in this database, as `pid 4121 (everindex lock build, since 12 s)`; None if it is free. Reads only.

    Address and age are left out if this role may not see them.
    """
    row = connection.execute(
        """
        SELECT a.pid, a.application_name, a.client_addr::text, round(extract(epoch FROM now() - a.backend_start))
        FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
          AND l.classid = %s::bigint::oid AND l.objid = %s::bigint::oid
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        ORDER BY a.backend_start, a.pid LIMIT 1
        """,
        (LOCK_CLASS, LOCK_IDS[name]),
    ).fetchone()
    if row is None:
        return None
    pid, application, address, seconds = row
    parts = [application or "no application name"]
    if address:
        parts.append(f"from {address}")
    if seconds is not None:
        parts.append(f"since {seconds} s")
    return f"pid {pid} ({', '.join(parts)})"
