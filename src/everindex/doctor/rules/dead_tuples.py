"""Rule: few rows are dead, because an index returns dead rows as candidates instead of live ones."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

WARN_SHARE = 0.10
ACT_SHARE = 0.20
#: PostgreSQL's autovacuum_vacuum_threshold: a table with fewer dead rows is never vacuumed.
FEW_ROWS = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid for index in examined.indexes}
    for table in (table for table in examined.heaps if table.oid in indexed):
        details = examined.table_details[table.oid]
        if table.estimated_rows and not details.was_counted:
            yield unknown(f"table {table.quoted} has no counts since a crash, a reset or a copy", about=table.quoted)
            continue
        dead = details.dead_rows
        share = dead / max(1, details.live_rows + dead)
        sentence = f"{share:.0%} of the rows of {table.quoted} are dead ({dead} dead, {details.live_rows} live)"
        if dead <= FEW_ROWS or share <= WARN_SHARE:
            yield good(sentence, about=table.quoted)
            continue
        urgency = (
            "act now: searches for many rows already return too few"
            if share > ACT_SHARE
            else "searches will soon suffer"
        )
        yield finding(
            f"{sentence}; {urgency}",
            about=table.quoted,
            fix=Fix(
                statements=(f"VACUUM (ANALYZE) {table.quoted}",),
                advice="VACUUM processes the whole graph and can take hours on a large index: REINDEX INDEX CONCURRENTLY "
                "first, then VACUUM (pgvector, README, Vacuuming). If it removes nothing, an old transaction holds the rows.",
            ),
        )


RULE = Rule(
    slug="dead-tuples",
    severity="warning",
    title="few rows of tables with a vector index are dead",
    reason="the index returns dead rows as candidates, which are then discarded: with 60 % deleted and no VACUUM a search for 40 "
    "rows at ef_search = 40 returned 16 (measured). The effect is noticeable from 10 % and serious beyond 20 %.",
    check=check,
)
