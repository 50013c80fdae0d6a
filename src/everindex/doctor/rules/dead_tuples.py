"""Rule: few rows are dead, because an index returns dead rows as candidates in place of live ones."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

WARN_SHARE = 0.10
ACT_SHARE = 0.20
#: PostgreSQL's autovacuum_vacuum_threshold: no table is vacuumed for less.
FEW_ROWS = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid for index in examined.indexes}
    for table in (table for table in examined.heaps if table.oid in indexed):
        details = examined.table_details[table.oid]
        if table.estimated_rows and not details.was_counted:
            yield unknown(
                f"of table {table.quoted} nothing was counted since a crash, a reset or a copy", about=table.quoted
            )
            continue
        dead = details.dead_rows
        share = dead / max(1, details.live_rows + dead)
        told = f"{share:.0%} of the rows of {table.quoted} are dead ({dead}, beside {details.live_rows} living)"
        if dead <= FEW_ROWS or share <= WARN_SHARE:
            yield good(told, about=table.quoted)
            continue
        urgency = "act now: searches for many rows already come back short" if share > ACT_SHARE else "soon to be felt"
        yield finding(
            f"{told}, {urgency}",
            about=table.quoted,
            fix=Fix(
                statements=(f"VACUUM (ANALYZE) {table.quoted}",),
                advice="VACUUM goes through the whole graph and can take hours on a big index: REINDEX INDEX CONCURRENTLY "
                "first, then VACUUM (pgvector, README, Vacuuming). If it removes nothing, an old transaction holds the rows.",
            ),
        )


RULE = Rule(
    slug="dead-tuples",
    severity="warning",
    title="few rows of tables with a vector index are dead",
    reason="the index returns dead rows as candidates and they are thrown away: with 60 % deleted and no VACUUM a search for 40 "
    "rows at ef_search = 40 returned 16 (measured). From 10 % on it shows, beyond 20 % it hurts.",
    check=check,
)
