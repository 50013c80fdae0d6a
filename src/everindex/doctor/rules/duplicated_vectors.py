"""Rule: no single vector is stored in many rows, as happens when an embedding provider fails."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: A few copies come from repeated texts; this many in a sample mean that a constant is stored instead of real vectors.
SHARE = 0.05
ROWS = 10


def check(examined: Examined) -> Iterator[RuleResult]:
    for table, sample in examined.samples(examined.indexed_tables):
        if isinstance(sample, str):
            yield unknown(sample, about=table.quoted)
            continue
        column = f"column {table.quoted_column} of {table.quoted}"
        sentence = f"the most frequent vector in {column} is in {sample.repeated} of {sample.with_vector} sampled rows"
        if sample.repeated < ROWS or sample.repeated < SHARE * sample.with_vector:
            yield good(sentence, about=table.quoted)
        else:
            yield finding(
                sentence,
                about=table.quoted,
                fix=Fix(
                    advice="look at these rows: either the same text is stored many times (keep one), or the embedding provider "
                    "returned a fallback. GROUP BY on the vector column lists them, but reads every vector."
                ),
            )


RULE = Rule(
    slug="duplicated-vectors",
    severity="warning",
    title="no vector is stored in many rows",
    reason="a failing provider that returns a constant or cached vector poisons the index: a search returns either all of these "
    "rows first or none of them, and they look like real results (topoteretes/cognee-rs#91, elizaOS/eliza#6562).",
    check=check,
)
