"""Rule: nearly every sampled row has a vector, because a row without one is in no vector index."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown

#: One row in a hundred may be waiting to be embedded.
SHARE = 0.01


def check(examined: Examined) -> Iterator[RuleResult]:
    for table, sample in examined.samples(examined.indexed_tables):
        if isinstance(sample, str):
            yield unknown(sample, about=table.quoted)
            continue
        column = f"column {table.quoted_column} of {table.quoted}"
        sentence = f"{sample.without_vector} of {sample.rows} sampled rows have no vector in {column}"
        if sample.without_vector <= SHARE * sample.rows:
            yield good(sentence, about=table.quoted)
        else:
            yield finding(
                sentence,
                about=table.quoted,
                fix=Fix(
                    advice="embed them (`everindex embed` for the articles), or have the application tell its users that "
                    "searches do not cover these rows."
                ),
            )


RULE = Rule(
    slug="null-vectors",
    severity="notice",
    title="nearly every row has a vector",
    reason="a row without a vector is in no vector index, and a search through the index never finds it (measured: 20 of 22 "
    "rows), without any error.",
    check=check,
)
