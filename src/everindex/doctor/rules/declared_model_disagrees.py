"""Rule: vectors without a record of their model equal the declared model's vectors of their texts."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.compared_vectors import ComparedVectors
from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.doctor.vector_comparison import judge_compared


def check(examined: Examined) -> Iterator[RuleResult]:
    yield from judge_compared(examined, _judge, compared_with="the declared model")


def _judge(found: ComparedVectors) -> RuleResult | None:
    if found.is_remote:
        return unknown(
            f"vectors of {found.quoted} without a record are declared as made by {found.model}; vectors written since then "
            "are not compared automatically, because that would send stored texts to its endpoint; "
            f"`everindex model declare {found.model}` compares a new sample"
        )
    if not found.declared:
        return None
    if not found.declared_other:
        return good(
            f"all {found.declared} sampled vectors of {found.quoted} without a record are of the declared model {found.model}",
            about=found.quoted,
        )
    return finding(
        f"{found.declared_other} of {found.declared} sampled vectors of {found.quoted} without a record differ from the "
        f"vectors of the declared model {found.model} for their texts",
        about=found.quoted,
        fix=Fix(
            advice="`everindex embed --check` embeds these again with that model. First stop any program that writes vectors "
            "of another model, or changes texts without embedding them."
        ),
    )


RULE = Rule(
    slug="declared-model-disagrees",
    severity="critical",
    title="vectors without a record are of the declared model",
    reason="a declaration also covers rows that another program adds later, whatever model it uses, and a search compares all "
    "of them (docs/decisions/0016).",
    check=check,
)
