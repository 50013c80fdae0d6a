"""Rule: random_page_cost fits the storage where vectors are stored out of line."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_database
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good

#: PostgreSQL's default, as a multiple of seq_page_cost.
SPINNING = 4.0
#: Values of about this size and more are stored out of line, and the table looks cheap to scan. Source: PostgreSQL, TOAST.
TOASTED_BYTES = 2000


def check(examined: Examined) -> Iterator[RuleResult]:
    wide = [
        index
        for index in examined.indexes
        if index.is_valid
        and (table := examined.table_of(index)) is not None
        and (table.dimensions or 0) * {"vector": 4, "halfvec": 2}.get(table.column_type, 0) >= TOASTED_BYTES
    ]
    if not wide:
        return
    cost = examined.number_of("random_page_cost")
    sequential = examined.number_of("seq_page_cost")
    if cost < SPINNING * sequential:
        yield good(f"random_page_cost is {cost:g}")
        return
    yield finding(
        f"random_page_cost is {cost:g}: with vectors stored out of line ({wide[0].quoted_table}) the planner stops using the "
        "index as ef_search or LIMIT grows",
        fix=Fix(
            statements=(set_for_database(examined.capabilities.database, "random_page_cost", "1.1"),),
            advice="suits SSD and network storage; the change applies to new connections.",
        ),
    )


RULE = Rule(
    slug="random-page-cost-default",
    severity="warning",
    title="random_page_cost fits the storage",
    reason="with the default of 4 a search of 63,166 × 1536 used the index at ef_search 80 and read the whole table at 100, 100 "
    "times slower; with 1.1 it did not (measured).",
    check=check,
)
