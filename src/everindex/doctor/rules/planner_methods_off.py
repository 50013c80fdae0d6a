"""Rule: no planner method that vector searches need is switched off outside a session."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import made_settings
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good

#: Each setting and the consequence of switching it off. Without the first one no search uses a vector index.
METHODS = {
    "enable_indexscan": "no search uses a vector index",
    "enable_seqscan": "small tables and exact searches get worse plans, and tests of the index prove nothing",
    "enable_sort": "exact searches and filters get poor plans",
    "enable_bitmapscan": "filters combined with a vector search get poor plans",
    "enable_incremental_sort": "ORDER BY distance, id cannot use the index",
}


def check(examined: Examined) -> Iterator[RuleResult]:
    off = [made for made in made_settings(examined, METHODS) if made.value.lower() in ("off", "false", "no", "0")]
    if not off:
        yield good("no planner method is switched off for a role, this database or the server")
    for made in off:
        yield finding(
            f"{made.name} is off {made.where}: {METHODS[made.name.lower()]}",
            fix=Fix(statements=made.undo, advice=made.undo_advice or "the change applies to new connections."),
        )


RULE = Rule(
    slug="planner-methods-off",
    severity="warning",
    title="no planner method is switched off",
    reason="these settings are meant for tests in a session; stored for a role or database they silently change every plan "
    "(pgvector#853; PostgreSQL documentation, Planner Method Configuration).",
    check=check,
)
