"""One operation on an index: its time limits, its reporter, its cancellation, and its waiting for other sessions.

A wait here holds no lock and no snapshot, and reports what it waits for. It does not guarantee that no other session locks
the table between the wait and the statement after it: that statement then waits, and is watched (`online`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from everindex.errors import DeployStopped, LockNotObtained
from everindex.index.activity.table_locks import conflicting_session
from everindex.index.reporter import Reporter
from everindex.index.spec import OnlineIndex
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

POLL_SECONDS = 0.3
#: A statement that needs a stronger lock than SHARE UPDATE EXCLUSIVE waits this long for it, since others queue up behind it.
SHORT_LOCK_TIMEOUT = "300ms"


@dataclass(slots=True, kw_only=True)
class Operation:
    """One operation on one index, from start to end: a deploy, a drop, a rollback, the build of the keyword index."""

    conninfo: str
    spec: OnlineIndex
    reporter: Reporter
    deadline: float = field(default_factory=lambda: time.monotonic() + 3600.0)
    """When waiting for others ends, on the monotonic clock. A build of our own is limited by its policy instead."""

    is_serial: bool = False
    """True once shared memory was too small for a parallel build."""

    build_seconds: float | None = None
    warnings: list[str] = field(default_factory=list)

    stop: threading.Event | None = None
    """Set to end the operation now: it no longer waits for anything, and its running statements are cancelled."""

    @property
    def is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    @property
    def is_out_of_time(self) -> bool:
        """True when the operation may no longer wait for anything."""
        return self.is_stopped or time.monotonic() >= self.deadline

    def warn(self, text: str) -> None:
        """Reports a warning now and again at the end, each text once."""
        if text not in self.warnings:
            self.warnings.append(text)


def stopped(spec: OnlineIndex, left: str = "") -> DeployStopped:
    """The error for an operation that was stopped; `left` says what happened to an unfinished index."""
    return DeployStopped(
        f"the work on index {spec.qualified_name} was stopped.",
        why="its process was asked to stop.",
        next_step=f"{left} The next start, or  everindex heal , continues from the current state.".strip(),
    )


def wait_for_table(operation: Operation, connection: Connection, schema: str, table: str) -> None:
    """Waits, by polling, until no other session builds, drops or vacuums on the table.

    Waiting inside CREATE INDEX would hold a snapshot, and the other build waits for every older snapshot: PostgreSQL
    would then end one of the two as a deadlock, and not always ours. Raises LockNotObtained when the deadline has passed,
    or when one of them takes longer than the build's policy allows.
    """
    reported: str | None = None
    since = time.monotonic()
    policy = operation.spec.build
    limits = [
        limit for limit in (policy.give_up_after_seconds, policy.wait_for_transactions_seconds) if limit is not None
    ]
    while (worker := conflicting_session(connection, schema, table)) is not None:
        if worker != reported:
            operation.reporter.say(f"waiting for other work on table {schema}.{table}: {worker}")
            reported, since = worker, time.monotonic()
        if operation.is_out_of_time or (limits and time.monotonic() - since >= min(limits)):
            raise LockNotObtained(
                f"table {schema}.{table} is in use by another builder or maintenance command.",
                why=f"{worker} did not end within the time that this process may wait.",
                next_step="wait for it or end it, then run the same command again; nothing was changed by this one.",
            )
        time.sleep(POLL_SECONDS)


def run_briefly(
    operation: Operation,
    connection: Connection,
    doing: str,
    *statements: sql.Composed,
    then: Callable[[Connection], None] | None = None,
) -> None:
    """Runs the statements, and `then`, in one transaction that never waits long for a lock, and retries until the deadline.

    A statement that waits for ACCESS EXCLUSIVE blocks all later ones; so it waits only for a moment, lets them pass, and
    tries again. Raises LockNotObtained when the deadline has passed, and whatever the statements raise.
    """
    pause = 0.05
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (SHORT_LOCK_TIMEOUT,))
                for statement in statements:
                    connection.execute(statement)
                if then is not None:
                    then(connection)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
            if operation.is_out_of_time:
                raise LockNotObtained(
                    f"{doing} did not get its lock.",
                    why="other transactions kept the table or the index locked.",
                    next_step="find them in pg_stat_activity and end them, then run the same command again; nothing was "
                    "changed.",
                ) from exc
            if pause > 1:
                operation.reporter.say(f"{doing}: waiting until no other transaction holds a lock")
            time.sleep(pause * random.uniform(0.7, 1.3))  # jitter, not security
            pause = min(pause * 2, 2.0)
        except psycopg.Error as exc:
            with translate_errors(doing):
                raise exc


def set_session(connection: Connection, settings: Mapping[str, str]) -> None:
    """Settings for the rest of the session."""
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
