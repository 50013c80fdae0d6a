"""Rule: recorded vectors equal their model's vectors of the stored texts."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.compared_vectors import ComparedVectors
from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.vector_comparison import judge_compared


def check(examined: Examined) -> Iterator[RuleResult]:
    yield from judge_compared(examined, _judge, compared_with="their texts")


def _judge(found: ComparedVectors) -> RuleResult | None:
    if not found.recorded:
        return None
    if not found.recorded_other:
        return good(
            f"all {found.recorded} sampled vectors of {found.quoted} equal those of {found.model} for their texts",
            about=found.quoted,
        )
    return finding(
        f"{found.recorded_other} of {found.recorded} sampled vectors of {found.quoted} are recorded as made by "
        f"{found.model}, but from a text other than the stored one",
        about=found.quoted,
        fix=Fix(advice="`everindex embed --check` compares every vector with its text, and embeds these again."),
    )


RULE = Rule(
    slug="vectors-of-other-text",
    severity="warning",
    title="vectors belong to the texts that are stored",
    reason="such a row is found by a text that no longer exists instead of its own: caused by programs that edit a text without "
    "embedding it, and by partial upserts of early releases (251 of 400 rows in a test with concurrent writers).",
    check=check,
)
