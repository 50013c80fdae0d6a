"""When is a build given up? When its policy's time is over, or when it has waited too long for one transaction.

Not by lock_timeout or statement_timeout: those strike in the last second of a build of hours as well as in the first,
and leave an INVALID index that nobody removes. The watchdog says whom the build waited for, and who cancels cleans up.
"""

from __future__ import annotations

import time

from everindex.index.blockers import blocker_of, duration
from everindex.index.progress import Progress
from everindex.index.spec import BuildPolicy
from everindex.pg.connections import Connection


class PolicyWatchdog:
    """Judges each look at a build by its policy."""

    def __init__(self, policy: BuildPolicy) -> None:
        self._policy = policy
        self._waiting_since: float | None = None
        self._waiting_for: tuple[int, ...] = ()

    def verdict(self, connection: Connection, progress: Progress) -> str | None:
        """Why to give up, naming who stood in the way; None to go on."""
        limit = self._policy.give_up_after_seconds
        if limit is not None and progress.elapsed_seconds >= limit:
            return f"it had not ended after {duration(limit)} (its phase: {progress.phase})"
        if progress.waits_for != self._waiting_for:
            self._waiting_for = progress.waits_for
            self._waiting_since = time.monotonic() if progress.waits_for else None
        limit = self._policy.wait_for_transactions_seconds
        if limit is None or self._waiting_since is None or time.monotonic() - self._waiting_since < limit:
            return None
        who = ", ".join(blocker_of(connection, pid) for pid in progress.waits_for)
        return f"it waited longer than {duration(limit)} for {who}"
