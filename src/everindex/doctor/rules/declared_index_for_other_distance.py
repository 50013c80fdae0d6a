"""Rule: every declared index has the opclass of the operator that its searches use."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.catalog.roles import declared_index


def check(examined: Examined) -> Iterator[RuleResult]:
    for spec, about, observed in examined.declared_indexes:
        if isinstance(observed, str):
            yield unknown(observed, about=about)
            continue
        found = declared_index(spec, observed)
        if found is None:
            continue
        if found.opclass == spec.opclass:
            yield good(f"declared index {about} serves {spec.operator}, which its searches use", about=about)
        else:
            yield finding(
                f"declared index {about} has opclass {found.opclass}, but {spec.opclass} is declared: a search by "
                f"{spec.operator} cannot use it and reads the whole table",
                about=about,
                fix=Fix(
                    advice="`everindex deploy` builds the declared one next to it; the distance of an existing index cannot "
                    "be changed."
                ),
            )


RULE = Rule(
    slug="declared-index-for-other-distance",
    severity="critical",
    title="every declared index has the distance that its searches use",
    reason="an index serves only the operator of its opclass: an L2 index on a column with cosine searches is valid and "
    "written to, but never used (vectorize-io/hindsight#1667).",
    check=check,
)
