"""The safe fixes of a report, run one statement at a time; each finding is checked again just before.

Builds are left to `everindex heal`. A statement that fails is reported and never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, LiteralString

import psycopg

from everindex.doctor.examine import examine
from everindex.doctor.rule import Report, Rule, RuleResult
from everindex.index.spec import IndexSpec
from everindex.message_text import with_backticks
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.index_catalog import table_oid_of

#: How long a statement may wait for its lock; every session behind it in the queue waits as long.
LOCK_TIMEOUT_MS = 5_000

Outcome = Literal["done", "failed", "left"]
"""left: not tried, because another session is working on the table, the finding no longer exists, or it is a build, which
`everindex heal` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """The outcome of one safe statement."""

    slug: str
    about: str
    statement: str
    outcome: Outcome
    why: str = ""

    def as_dict(self) -> dict[str, str | None]:
        return {
            "rule": self.slug,
            "about": self.about or None,
            "statement": self.statement,
            "outcome": self.outcome,
            "why": with_backticks(self.why) or None,
        }


def apply_fixes(
    conninfo: str,
    report: Report,
    *,
    declared: tuple[IndexSpec, ...] = (),
    on_result: Callable[[FixResult], None] = lambda result: None,
) -> tuple[FixResult, ...]:
    """Runs the safe fixes of a report, each statement in a session of its own, and yields the outcome of each.

    Nothing is retried: a statement that fails is reported, and the next run of the rule finds what remains. Builds
    (CREATE INDEX, REINDEX) are left to `everindex heal`, which can wait for snapshots and clean up after itself.
    """
    results = []
    for rule, answer in report.findings:
        if answer.fix is None or not answer.fix.is_safe:
            continue
        for result in _apply_one(conninfo, rule, answer, declared):
            on_result(result)
            results.append(result)
            if result.outcome != "done":
                break
    return tuple(results)


def _apply_one(conninfo: str, rule: Rule, answer: RuleResult, declared: tuple[IndexSpec, ...]) -> Iterator[FixResult]:
    assert answer.fix is not None
    with connect(conninfo, application_name="everindex doctor") as connection:
        reason = _reason_to_leave(connection, rule, answer, declared)
    for statement in answer.fix.statements:
        if reason is None and statement.upper().startswith(("CREATE INDEX", "REINDEX")):
            reason = "builds are done by `everindex heal`"
        if reason is not None:
            yield FixResult(slug=rule.slug, about=answer.about, statement=statement, outcome="left", why=reason)
            continue
        failure = _run(conninfo, statement)
        yield FixResult(
            slug=rule.slug,
            about=answer.about,
            statement=statement,
            outcome="failed" if failure else "done",
            why=failure or "",
        )


def _run(conninfo: str, statement: str) -> str | None:
    """Runs one statement; why it failed, or None."""
    with connect(conninfo, application_name="everindex doctor") as connection:
        lift_time_limits(connection)
        # A statement that times out leaves nothing new behind: an index whose drop is cancelled remains INVALID as before.
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (str(LOCK_TIMEOUT_MS),))
        try:
            # Bytes are sent unchanged, so that a % in a name is not taken for a placeholder.
            connection.execute(statement.encode())
        except psycopg.Error as exc:
            return exc.diag.message_primary or str(exc).strip().partition("\n")[0]
    return None


def _reason_to_leave(
    connection: Connection, rule: Rule, answer: RuleResult, declared: tuple[IndexSpec, ...]
) -> str | None:
    """Why this finding should be left alone now: it was repaired meanwhile, or another session is working on its table. Reads
    only."""
    again = examine(connection, declared, slugs=(rule.slug,))
    if not any(now.about == answer.about and now.fix == answer.fix for _, now in again.findings):
        return "the problem no longer exists"
    if not answer.about:
        return None
    # A build whose progress this role may not see makes its index look INVALID; its lock is visible to every role.
    # Autovacuum, which has no user, is ignored: PostgreSQL cancels it in favour of a session that waits.
    row = connection.execute(_AT_WORK, {"about": answer.about}).fetchone()
    return None if row is None else f"pid {row[0]} ({row[1] or 'no name'}) is working on the table"


_AT_WORK: LiteralString = f"""
    SELECT l.pid, a.application_name
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT pg_catalog.to_regclass(%(about)s)::oid
                         UNION SELECT {table_oid_of("pg_catalog.to_regclass(%(about)s)")})
      AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                     'AccessExclusiveLock')
      AND a.usesysid IS NOT NULL
    ORDER BY a.backend_start LIMIT 1
"""  # noqa: S608
