"""Rule: vectors without a record of their model are those that the declared model gives their texts."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.errors import EverindexError


def check(examined: Examined) -> Iterator[RuleResult]:
    try:
        found = examined.compared_vectors
    except EverindexError as exc:
        yield unknown(f"vectors could not be compared with the declared model: {exc.why}")
        return
    if found is not None and found.is_remote:
        yield unknown(
            f"vectors of {found.quoted} without a record are declared as made by {found.model}, and those that were written "
            "since are not compared with it: its endpoint would be sent stored texts that nobody has asked to send; "
            f"`everindex model declare {found.model}` compares a new sample"
        )
        return
    if found is None or not found.declared:
        return
    if found.declared_other:
        yield finding(
            f"{found.declared_other} of {found.declared} sampled vectors of {found.quoted} without a record are not those that "
            f"the declared model {found.model} gives their texts",
            about=found.quoted,
            fix=Fix(
                advice="`everindex embed --check` makes these anew with that model. A program that goes on to write vectors of "
                "another model, or texts without embedding them, has to be stopped first."
            ),
        )
    else:
        yield good(
            f"{found.declared} sampled vectors of {found.quoted} without a record are of the declared model {found.model}",
            about=found.quoted,
        )


RULE = Rule(
    slug="declared-model-disagrees",
    severity="critical",
    title="vectors without a record are of the declared model",
    reason="a declaration covers the rows that another program adds later, whatever it embeds them with; a search compares them "
    "all (docs/decisions/0016).",
    check=check,
)
