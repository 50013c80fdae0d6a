"""Rule: plan_cache_mode does not force prepared searches to use a generic plan."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import made_settings
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    forced = [
        made for made in made_settings(examined, ["plan_cache_mode"]) if made.value.lower() == "force_generic_plan"
    ]
    if not forced:
        yield good("no prepared statement is forced to use a generic plan")
    for made in forced:
        yield finding(
            f"plan_cache_mode is force_generic_plan {made.where}: a prepared search with LIMIT $2 reads the whole table",
            fix=Fix(
                statements=made.undo,
                advice=made.undo_advice or "if it must stay: write LIMIT as a number, not as a parameter.",
            ),
        )


RULE = Rule(
    slug="plan-cache-forced-generic",
    severity="warning",
    title="prepared searches get custom plans",
    reason="for LIMIT $2 a generic plan assumes a tenth of the rows and takes a Seq Scan, and it cannot use a partial index "
    "whose condition is a parameter (measured on PostgreSQL 18; PostgreSQL documentation, plan_cache_mode).",
    check=check,
)
