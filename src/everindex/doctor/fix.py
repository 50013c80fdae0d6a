"""Which findings are mended by us, and how? Only the safe ones, a statement at a time, each asked again just before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import psycopg

from everindex.doctor.examine import examine
from everindex.doctor.rule import Report, Rule, RuleResult
from everindex.index.spec import IndexSpec
from everindex.message_text import with_backticks
from everindex.pg.connections import Connection, connect, lift_time_limits

#: How long a statement may wait for its lock: whoever comes after it in the queue waits as long.
LOCK_TIMEOUT_MS = 5_000

Outcome = Literal["done", "failed", "left"]
"""left: not tried, because somebody is at work there, it is mended already, or it is the index engine's business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What became of one safe statement."""

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


def mend(
    conninfo: str,
    report: Report,
    *,
    declared: tuple[IndexSpec, ...] = (),
    on_mended: Callable[[Mended], None] = lambda mended: None,
) -> tuple[Mended, ...]:
    """Runs the safe fixes of a report, each statement on a session of its own, and says what became of each.

    Nothing is repeated: a statement that fails is told, and the rule asked again afterwards finds what is left. Builds
    (CREATE INDEX, REINDEX) are left to `everindex heal`, which can wait for snapshots and clean up behind itself.
    """
    results = []
    for rule, answer in report.findings:
        if answer.fix is None or not answer.fix.is_safe:
            continue
        for mended in _mend_one(conninfo, rule, answer, declared):
            on_mended(mended)
            results.append(mended)
            if mended.outcome != "done":
                break
    return tuple(results)


def _mend_one(conninfo: str, rule: Rule, answer: RuleResult, declared: tuple[IndexSpec, ...]) -> Iterator[Mended]:
    assert answer.fix is not None
    with connect(conninfo, application_name="everindex doctor") as connection:
        reason = _reason_to_leave(connection, rule, answer, declared)
    for statement in answer.fix.statements:
        if reason is None and statement.upper().startswith(("CREATE INDEX", "REINDEX")):
            reason = "a build is the business of `everindex heal`"
        if reason is not None:
            yield Mended(slug=rule.slug, about=answer.about, statement=statement, outcome="left", why=reason)
            continue
        failure = _run(conninfo, statement)
        yield Mended(
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
        # What is cut off here leaves nothing new behind: an index whose drop is cut off stays as INVALID as it was.
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (str(LOCK_TIMEOUT_MS),))
        try:
            # Bytes are sent as they are; a name with a % in it is no parameter.
            connection.execute(statement.encode())
        except psycopg.Error as exc:
            return exc.diag.message_primary or str(exc).strip().partition("\n")[0]
    return None


def _reason_to_leave(
    connection: Connection, rule: Rule, answer: RuleResult, declared: tuple[IndexSpec, ...]
) -> str | None:
    """Why this finding is better left alone now: mended meanwhile, or somebody is at work on its table. Reads only."""
    again = examine(connection, declared, slugs=(rule.slug,))
    if not any(now.about == answer.about and now.fix == answer.fix for _, now in again.findings):
        return "it is no longer found"
    if not answer.about:
        return None
    # A build that nobody lets us see makes its index look INVALID: its lock is what every role sees. Autovacuum, which
    # has no user, is cancelled by PostgreSQL for whoever waits.
    row = connection.execute(
        """
        SELECT l.pid, a.application_name
        FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND l.relation IN (SELECT pg_catalog.to_regclass(%(about)s)::oid
                             UNION SELECT i.indrelid FROM pg_catalog.pg_index i
                                   WHERE i.indexrelid = pg_catalog.to_regclass(%(about)s))
          AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                         'AccessExclusiveLock')
          AND a.usesysid IS NOT NULL
        ORDER BY a.backend_start LIMIT 1
        """,
        {"about": answer.about},
    ).fetchone()
    return None if row is None else f"pid {row[0]} ({row[1] or 'no name'}) is at work on the table"
