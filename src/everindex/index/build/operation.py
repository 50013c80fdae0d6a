"""One operation on an index: its limits of time, whom it reports to, who may stop it, and how it waits for others.

A wait here holds no lock and no snapshot, and reports what it waits for. That nobody takes the table between the
wait and the statement after it is not guaranteed: that statement then waits, watched (`online`).
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
#: A statement that wants more than SHARE UPDATE EXCLUSIVE waits this long for it: others queue up behind it.
SHORT_LOCK_TIMEOUT = "300ms"


@dataclass(slots=True, kw_only=True)
class Operation:
    """One operation on one index, from its start to its end: a deploy, a drop, a rollback, the build of the words' index."""

    conninfo: str
    spec: OnlineIndex
    reporter: Reporter
    deadline: float = field(default_factory=lambda: time.monotonic() + 3600.0)
    """On the monotonic clock: waiting for others ends then. A build of our own has its policy."""

    is_serial: bool = False
    """True once shared memory was too small for a parallel build."""

    build_seconds: float | None = None
    warnings: list[str] = field(default_factory=list)

    stop: threading.Event | None = None
    """Set by who wants the work to end now: nothing is waited for any more, and running statements are cancelled."""

    @property
    def is_stopped(self) -> bool:
        return self.stop is not None and self.stop.is_set()

    @property
    def is_out_of_time(self) -> bool:
        """True when nothing may be waited for any more."""
        return self.is_stopped or time.monotonic() >= self.deadline

    def warn(self, text: str) -> None:
        """Told now and again at the end, once each."""
        if text not in self.warnings:
            self.warnings.append(text)


def stopped(spec: OnlineIndex, left: str = "") -> DeployStopped:
    """The error of an operation that was stopped; `left` says what became of an unfinished index."""
    return DeployStopped(
        f"the work on index {spec.qualified_name} was stopped.",
        why="the process that did it was told to end.",
        next_step=f"{left} The next start, or  everindex heal , goes on from what is there.".strip(),
    )


def wait_for_table(operation: Operation, connection: Connection, schema: str, table: str) -> None:
    """Waits until no other session builds, drops or vacuums on the table, by polling.

    Waiting inside CREATE INDEX would hold a snapshot, and the other build waits for every older snapshot: PostgreSQL
    then ends one of the two as a deadlock, and not always ours. Raises LockNotObtained when the deadline has passed,
    or the patience of the build's policy with one of them.
    """
    told: str | None = None
    since = time.monotonic()
    policy = operation.spec.build
    limits = [
        limit for limit in (policy.give_up_after_seconds, policy.wait_for_transactions_seconds) if limit is not None
    ]
    while (worker := conflicting_session(connection, schema, table)) is not None:
        if worker != told:
            operation.reporter.say(f"waiting for other work on table {schema}.{table}: {worker}")
            told, since = worker, time.monotonic()
        if operation.is_out_of_time or (limits and time.monotonic() - since >= min(limits)):
            raise LockNotObtained(
                f"table {schema}.{table} is in use by another builder or maintenance command.",
                why=f"{worker} did not end in the time that this process may wait.",
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
    """The statements, and `then`, in one transaction that never waits long for a lock, tried until the deadline.

    A statement that waits for ACCESS EXCLUSIVE stops all who come after it; so it waits for a moment only, lets them
    pass, and asks again. Raises LockNotObtained when the deadline has passed, and what the statements raise.
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
                    why="other transactions held the table or the index all the time.",
                    next_step="see who in pg_stat_activity, end it, then run the same command again; nothing was changed.",
                ) from exc
            if pause > 1:
                operation.reporter.say(f"{doing}: waiting for a moment without other transactions")
            time.sleep(pause * random.uniform(0.7, 1.3))  # jitter, not security
            pause = min(pause * 2, 2.0)
        except psycopg.Error as exc:
            with translate_errors(doing):
                raise exc


def set_session(connection: Connection, settings: Mapping[str, str]) -> None:
    """Settings for the rest of the session."""
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
