"""Rule: no vector index is INVALID, except one being built or a hidden previous generation."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.index.catalog.generations import PREVIOUS
from everindex.pg.reindex_leftovers import reindex_leftover


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.indexes:
        if reindex_leftover(index.name) and not index.is_valid:
            continue  # the index that it should have replaced serves: rule leftover-of-reindex
        if index.is_partitioned or index.is_attached:
            continue  # neither can be dropped on its own: rule partitioned-index-incomplete
        if index.is_valid:
            yield good(f"index {index.quoted} is valid", about=index.quoted)
        elif index.is_being_built or index.table_oid in examined.tables_at_work:
            # The second condition covers roles that may not see another role's progress. A drop would wait for the build and
            # then remove its result.
            yield good(f"index {index.quoted} is being built now", about=index.quoted)
        elif PREVIOUS in (index.comment or ""):
            yield good(
                f"index {index.quoted} is a previous generation, deliberately kept and hidden", about=index.quoted
            )
        else:
            cost = "every write maintains it" if index.is_ready else "its build failed early"
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is INVALID: no search uses it, {cost}",
                about=index.quoted,
                fix=Fix(
                    statements=(f"DROP INDEX CONCURRENTLY {index.quoted}",),
                    is_safe=not index.is_partitioned,
                    advice="for a declared index, `everindex heal` drops it and builds it again.",
                ),
            )


RULE = Rule(
    slug="index-is-invalid",
    severity="critical",
    title="no vector index is INVALID",
    reason="an interrupted CREATE INDEX CONCURRENTLY leaves it behind, and IF NOT EXISTS then always reports success "
    "(PostgreSQL documentation, CREATE INDEX, Building Indexes Concurrently).",
    check=check,
)
