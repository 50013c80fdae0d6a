"""Rule: every declared index exists with the definition that is declared."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.catalog.drift import differences
from everindex.index.catalog.roles import declared_index


def check(examined: Examined) -> Iterator[RuleResult]:
    for spec, about, observed in examined.declared_indexes:
        if isinstance(observed, str):
            yield unknown(observed, about=about)
            continue
        found = declared_index(spec, observed)
        # Missing indexes and other distances have rules of their own.
        if found is None or found.opclass != spec.opclass:
            continue
        differing = differences(spec, observed, found)
        if not differing:
            yield good(f"declared index {about} is as declared", about=about)
        else:
            yield finding(
                f"declared index {about} has another definition: {'; '.join(differing)}",
                about=about,
                fix=Fix(
                    advice="`everindex deploy` builds the declared index next to it, tests it and swaps the two; or correct "
                    "the declaration if the index is right."
                ),
            )


RULE = Rule(
    slug="declared-index-drifted",
    severity="warning",
    title="every declared index is as declared",
    reason="tools identify an index only by its name, including Alembic, which compares neither method, opclass nor options "
    "(sqlalchemy/alembic#1603): a changed declaration then never reaches the database.",
    check=check,
)
