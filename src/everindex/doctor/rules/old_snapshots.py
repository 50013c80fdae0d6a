"""Rule: no session holds an old snapshot, which holds up concurrent builds and VACUUM."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import LONG_OPEN_SECONDS, Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import duration_text


def check(examined: Examined, *, older_than_seconds: float = LONG_OPEN_SECONDS) -> Iterator[RuleResult]:
    rows = examined.rows(
        """
        SELECT pid, coalesce(application_name, ''), usename, state,
               extract(epoch FROM now() - coalesce(xact_start, query_start))::float8,
               left(regexp_replace(query, '\\s+', ' ', 'g'), 60), state IS NULL
        FROM pg_catalog.pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
          AND (state IS NULL OR backend_xmin IS NOT NULL OR state LIKE 'idle in transaction%')
        ORDER BY xact_start NULLS LAST, pid
        """
    )
    hidden = sum(row[6] for row in rows)
    old = [row for row in rows if not row[6] and (row[4] or 0) >= older_than_seconds]
    for pid, application, role, state, seconds, query, _ in old:
        yield finding(
            f"pid {pid} ({application or 'no name'}, role {role}) is {state}, in a transaction open for "
            f"{duration_text(seconds)}: {query}",
            fix=Fix(
                statements=(f"SELECT pg_terminate_backend({int(pid)})",),
                advice="end the transaction in the application if you can; the statement ends the session and rolls it back.",
            ),
        )
    if hidden and not examined.sees_other_sessions:
        yield unknown(
            f'{hidden} sessions of other roles are hidden from role "{examined.capabilities.role}": GRANT pg_read_all_stats'
        )
    elif not old:
        yield good(f"no transaction is older than {duration_text(older_than_seconds)}")


RULE = Rule(
    slug="old-snapshots",
    severity="warning",
    title="no session holds an old snapshot",
    reason="CREATE INDEX CONCURRENTLY waits for every transaction of the database with a snapshot older than its own, and VACUUM "
    "cannot remove dead rows that such a snapshot could see (measured in six cases; PostgreSQL documentation, CREATE INDEX).",
    check=check,
)
