"""Rule: recorded vectors are those that their model gives the text that is stored now."""

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
            f"{found.recorded} sampled vectors of {found.quoted} are those that {found.model} gives their texts",
            about=found.quoted,
        )
    return finding(
        f"{found.recorded_other} of {found.recorded} sampled vectors of {found.quoted} are recorded as made by "
        f"{found.model}, but of another text than is stored",
        about=found.quoted,
        fix=Fix(advice="`everindex embed --check` compares every vector with its text, and makes those anew."),
    )


RULE = Rule(
    slug="vectors-of-other-text",
    severity="warning",
    title="vectors are of the texts that are stored",
    reason="a row is then found by a text that is gone, and not by its own: left by programs that edit a text and do not embed, "
    "and by partial upserts of early releases (251 of 400 rows of a writers' test).",
    check=check,
)
