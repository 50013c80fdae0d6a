"""Rule: the measured recall of every declared index holds its floor.

Reads measurements of the keeper and of deploys; measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.errors import EverindexError
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import serving_spec
from everindex.index.keeper.evidence import is_worth_measuring
from everindex.index.recall.current import recall_now
from everindex.index.recall.shortfall import SHORTFALL_NEXT, shortfall_sentence, standing_shortfall


def check(examined: Examined) -> Iterator[RuleResult]:
    for spec in examined.declared:
        try:
            observed = observe(examined.connection, spec)
            if serving_spec(spec, observed) is None:
                continue  # other rules cover this
            noted = standing_shortfall(examined.connection, spec, observed)
            if noted is not None:
                yield finding(shortfall_sentence(spec, noted), about=spec.name, fix=Fix(advice=f"{SHORTFALL_NEXT}."))
                continue
            if not is_worth_measuring(observed):
                continue  # the table is so small that every search reads all of it
            now = recall_now(examined.connection, spec, observed)
        except EverindexError as exc:
            yield unknown(f"index {spec.qualified_name}: its recall could not be looked up, {exc.why}", about=spec.name)
            continue
        if now.is_below:
            yield finding(
                f"index {spec.qualified_name}: {now.sentence}",
                about=spec.name,
                fix=Fix(
                    advice="everindex tune  finds the ef_search or the configuration that holds the floor again; the keeper "
                    "(everindex keep), if it runs, has already rebuilt the index if that helps."
                ),
            )
        elif not now.is_enough:
            yield unknown(
                f"index {spec.qualified_name}: too few queries have been measured to judge its recall ({now.queries}); "
                "the keeper measures a few at a time (`everindex verify` measures now)",
                about=spec.name,
            )
        else:
            yield good(f"index {spec.qualified_name}: {now.sentence}", about=spec.name)


RULE = Rule(
    slug="recall-below-floor",
    severity="warning",
    title="recall holds its floor",
    reason="an approximate index silently misses neighbours, and more of them as the table grows or the queries change: only "
    "a comparison with exact scans shows it (pgvector/pgvector#136).",
    check=check,
)
