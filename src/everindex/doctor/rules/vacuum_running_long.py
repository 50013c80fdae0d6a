"""Rule: no VACUUM has been running for long on a table with a vector index."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import duration_text

LONG_SECONDS = 1800.0


def check(examined: Examined) -> Iterator[RuleResult]:
    tables = {index.table_oid: index.quoted_table for index in examined.indexes}
    if not tables:
        return
    running = examined.rows(
        # The server does not show a role without pg_read_all_stats which table another role's VACUUM processes. A VACUUM has
        # one transaction for each table, so the transaction's age is the time spent on this table.
        """
        SELECT p.relid, p.pid, p.phase, extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
               a.backend_type = 'autovacuum worker'
        FROM pg_catalog.pg_stat_progress_vacuum p
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid
        WHERE p.datname = current_database()
        """
    )
    hidden = [pid for relid, pid, _, seconds, _ in running if relid is None or seconds is None]
    if hidden:
        yield unknown(
            f"this role cannot see which table the VACUUM of pid {hidden[0]} processes (pg_read_all_stats shows it)"
        )
    visible = [row for row in running if row[1] not in hidden and row[0] in tables]
    for relid, pid, phase, seconds, is_autovacuum in visible:
        sentence = (
            f"{'autovacuum' if is_autovacuum else 'VACUUM'} (pid {pid}) has been working on {tables[relid]} for "
            f"{duration_text(seconds)}; phase: {phase}"
        )
        if seconds < LONG_SECONDS:
            yield good(sentence, about=tables[relid])
        else:
            yield finding(
                sentence,
                about=tables[relid],
                fix=Fix(
                    advice="no index can be built or rebuilt on the table meanwhile. Let it finish if it can; otherwise cancel "
                    f"it (SELECT pg_cancel_backend({pid})), REINDEX INDEX CONCURRENTLY the vector index, then VACUUM. "
                    "autovacuum_vacuum_cost_delay = 0 on the table makes autovacuum faster.",
                ),
            )
    if not running:
        yield good("no VACUUM is running")


RULE = Rule(
    slug="vacuum-running-long",
    severity="notice",
    title="no VACUUM is stuck in a vector index",
    reason="VACUUM repairs the graph around every deleted row and cannot skip that; ten hours have been reported "
    "(pgvector/pgvector#450). Builds on the same table must wait for it.",
    check=check,
)
