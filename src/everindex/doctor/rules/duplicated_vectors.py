"""Rule: no single vector is stored in many rows, as a failing embedding provider leaves it."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: A few copies are the same text twice; this many in a sample are a constant that something stores in place of a vector.
SHARE = 0.05
ROWS = 10


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = [table for table in examined.tables if table.relkind != "p" and examined.indexes_on(table)]
    for table, sample in examined.samples(indexed):
        if isinstance(sample, str):
            yield unknown(sample, about=table.quoted)
            continue
        column = f"column {table.quoted_column} of {table.quoted}"
        told = f"the vector seen most often in {column} is in {sample.repeated} of {sample.with_vector} sampled rows"
        if sample.repeated < ROWS or sample.repeated < SHARE * sample.with_vector:
            yield good(told, about=table.quoted)
        else:
            yield finding(
                told,
                about=table.quoted,
                fix=Fix(
                    advice="look at these rows: the same text many times (keep one), or a fallback of the embedding provider. "
                    "Grouping by the vector shows them, and reads every one."
                ),
            )


RULE = Rule(
    slug="duplicated-vectors",
    severity="warning",
    title="no vector stands in many rows",
    reason="a provider that fails and answers with a constant or cached vector poisons the index: these rows come first together "
    "or never, and look like answers (topoteretes/cognee-rs#91, elizaOS/eliza#6562).",
    check=check,
)
