"""Rule: no failed REINDEX CONCURRENTLY has left behind an index that every write maintains."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.reindex_leftovers import reindex_leftover


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.indexes:
        leftover = reindex_leftover(index.name)
        if leftover is None or index.is_valid:
            continue
        if index.is_being_built or index.table_oid in examined.tables_at_work:
            yield good(
                f"index {index.quoted} belongs to an operation in progress on {index.quoted_table}", about=index.quoted
            )
            continue
        if leftover.kind == "new":
            meaning = "it is the new index, never finished; the index that it should have replaced still serves"
        else:
            meaning = "it is the old index, never dropped; the index that replaced it serves"
        cost = ", and every write maintains it" if index.is_ready else ""
        yield finding(
            f"index {index.quoted} was left INVALID by a REINDEX CONCURRENTLY that failed: {meaning}{cost}",
            about=index.quoted,
            fix=Fix(
                statements=(f"DROP INDEX CONCURRENTLY {index.quoted}",),
                is_safe=True,
                advice="then repeat the REINDEX if it is still needed." if leftover.kind == "new" else "",
            ),
        )


RULE = Rule(
    slug="leftover-of-reindex",
    severity="warning",
    title="no REINDEX CONCURRENTLY has left an index behind",
    reason="a REINDEX CONCURRENTLY that fails leaves `_ccnew` (drop it, the old index serves) or `_ccold` (drop it, the new "
    "one serves) behind, INVALID and still written to (PostgreSQL documentation, REINDEX, Rebuilding Indexes Concurrently).",
    check=check,
)
