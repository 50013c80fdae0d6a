"""Rule: the model of every vector is recorded or declared."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.vector_records import COUNTED, read_unrecorded

DECLARE = (
    "`everindex model declare NAME` compares a sample with that model (static, or a name at the endpoint) and records it; "
    "`everindex embed --overwrite-unrecorded` replaces the vectors if the model is unknown."
)


def check(examined: Examined) -> Iterator[RuleResult]:
    for found in read_unrecorded(examined):
        counted = f"{found.unrecorded}" if found.unrecorded < COUNTED else f"{COUNTED} or more"
        if found.unrecorded and found.declared is None:
            yield finding(
                f"nothing says which model made {counted} vectors of {found.quoted}: texts are searched by keywords only",
                about=found.quoted,
                fix=Fix(advice=DECLARE),
            )
        elif found.unrecorded:
            yield good(
                f"{counted} vectors of {found.quoted} have no record, but are declared as made by {found.declared}",
                about=found.quoted,
            )
        else:
            yield good(f"every vector of {found.quoted} has a record of its model", about=found.quoted)


RULE = Rule(
    slug="vectors-of-unrecorded-model",
    severity="critical",
    title="the model of every vector is known",
    reason="comparing a text embedded with one model to vectors of another returns noise (similarity 0.07 at best, "
    "measured on a table that another program had filled).",
    check=check,
)
