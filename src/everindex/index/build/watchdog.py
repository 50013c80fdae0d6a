"""The watchdog of a build: cancels it when its policy's time has passed or one transaction blocks it for too long.

It does not use lock_timeout or statement_timeout: these can expire in the last second of a build of hours, and leave an
INVALID index that is not removed. The watchdog reports what the build waited for, and the caller cleans up after a cancel.
"""

from __future__ import annotations

import time

from everindex.index.activity.blockers import blocker_of, prepared_on
from everindex.index.activity.progress import Progress
from everindex.index.spec import BuildPolicy, NamedIndex
from everindex.pg.connections import Connection
from everindex.units import duration_text


class PolicyWatchdog:
    """Judges each progress reading of a build by its policy."""

    def __init__(self, policy: BuildPolicy, *, spec: NamedIndex) -> None:
        """`spec` names the table that is worked on."""
        self._policy = policy
        self._spec = spec
        self._waiting_since: float | None = None
        self._waiting_for: tuple[int | str, ...] = ()

    def verdict(self, connection: Connection, progress: Progress) -> str | None:
        """The reason to give up, naming the blockers; None to continue."""
        limit = self._policy.give_up_after_seconds
        if limit is not None and progress.elapsed_seconds >= limit:
            who = self._who(connection, self._blockers(connection, progress))
            detail = f"it waited for {who}" if who else f"its phase: {progress.phase}"
            return f"it had not finished after {duration_text(limit)} ({detail})"
        limit = self._policy.wait_for_transactions_seconds
        if limit is None:
            return None
        waits_for = self._blockers(connection, progress)
        if waits_for != self._waiting_for:
            self._waiting_for = waits_for
            self._waiting_since = time.monotonic() if waits_for else None
        if self._waiting_since is None or time.monotonic() - self._waiting_since < limit:
            return None
        return f"it waited longer than {duration_text(limit)} for {self._who(connection, waits_for)}"

    def _blockers(self, connection: Connection, progress: Progress) -> tuple[int | str, ...]:
        if not progress.waits_for and progress.phase.startswith("waiting for"):
            # A prepared transaction has no process, so PostgreSQL reports none.
            return prepared_on(connection, self._spec)
        return progress.waits_for

    def _who(self, connection: Connection, blockers: tuple[int | str, ...]) -> str:
        return ", ".join(blocker_of(connection, each) if isinstance(each, int) else each for each in blockers)
