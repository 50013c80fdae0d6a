"""Rule: vectors without a record of their model are those that the declared model gives their texts."""

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
            f"vectors of {found.quoted} without a record are declared as made by {found.model}, and those that were written "
            "since are not compared with it: its endpoint would be sent stored texts that nobody has asked to send; "
            f"`everindex model declare {found.model}` compares a new sample"
        )
    if not found.declared:
        return None
    if not found.declared_other:
        return good(
            f"{found.declared} sampled vectors of {found.quoted} without a record are of the declared model {found.model}",
            about=found.quoted,
        )
    return finding(
        f"{found.declared_other} of {found.declared} sampled vectors of {found.quoted} without a record are not those that "
        f"the declared model {found.model} gives their texts",
        about=found.quoted,
        fix=Fix(
            advice="`everindex embed --check` makes these anew with that model. A program that goes on to write vectors of "
            "another model, or texts without embedding them, has to be stopped first."
        ),
    )


RULE = Rule(
    slug="declared-model-disagrees",
    severity="critical",
    title="vectors without a record are of the declared model",
    reason="a declaration covers the rows that another program adds later, whatever it embeds them with; a search compares them "
    "all (docs/decisions/0016).",
    check=check,
)
