"""Rule: no table with a vector index has autovacuum switched off."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good

_FALSE = {"false", "off", "no", "0", "f", "n", "fal", "fals", "of"}


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid for index in examined.indexes}
    for table in (table for table in examined.heaps if table.oid in indexed):
        options = examined.table_details[table.oid].options
        off = [
            name
            for name in ("autovacuum_enabled", "toast.autovacuum_enabled")
            if options.get(name, "").lower() in _FALSE
        ]
        if not off:
            yield good(f"autovacuum is not switched off for table {table.quoted}", about=table.quoted)
            continue
        yield finding(
            f"autovacuum is switched off for table {table.quoted} ({', '.join(off)})",
            about=table.quoted,
            fix=Fix(
                statements=(f"ALTER TABLE {table.quoted} RESET ({', '.join(off)})",),
                advice="it was switched off on purpose, perhaps for a bulk load that has ended. The first VACUUM afterwards "
                "processes the whole graph.",
            ),
        )


RULE = Rule(
    slug="vacuum-off-for-table",
    severity="warning",
    title="autovacuum is on for every table with a vector index",
    reason="dead rows then stay among the candidates of every search and take the place of live ones (pgvector, README, "
    "Vacuuming), and statistics become stale.",
    check=check,
)
