"""Rule: no table has so many vector indexes that locking all of them exhausts the lock table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.index_catalog import CatalogIndex

#: With 200 partial indexes a statement takes 206 locks, and planning takes 4.8 ms instead of 1.0 (measured).
MANY_INDEXES = 50


def check(examined: Examined) -> Iterator[RuleResult]:
    by_table: dict[str, list[CatalogIndex]] = defaultdict(list)
    for index in examined.indexes:
        by_table[index.quoted_table].append(index)
    if not by_table:
        return
    ceiling = int(
        examined.number_of("max_locks_per_transaction")
        * (examined.number_of("max_connections") + examined.number_of("max_prepared_transactions"))
    )
    for table, indexes in by_table.items():
        sentence = f"table {table} has {len(indexes)} vector {'index' if len(indexes) == 1 else 'indexes'}"
        if len(indexes) <= MANY_INDEXES:
            yield good(sentence, about=table)
            continue
        yield finding(
            f"{sentence}: every statement locks all of them, and the server has room for {ceiling} locks "
            f"({max(1, ceiling // len(indexes))} such statements at once)",
            about=table,
            fix=Fix(
                advice="have partial indexes for the largest tenants only, or partition the table; until then raise "
                "max_locks_per_transaction (requires a restart)."
            ),
        )


RULE = Rule(
    slug="locks-per-table",
    severity="warning",
    title="no table has more than 50 vector indexes",
    reason="planning a statement locks every index of its tables; with about 2,100 tenants × 3 indexes even DELETE failed with "
    "`out of shared memory` (hindsight#3485; PostgreSQL documentation, max_locks_per_transaction).",
    check=check,
)
