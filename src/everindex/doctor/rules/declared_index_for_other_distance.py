"""Rule: every declared index has the opclass of the operator that its searches use."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.errors import EverindexError
from everindex.index.catalog.observe import observe
from everindex.index.catalog.roles import declared_index


def check(examined: Examined) -> Iterator[RuleResult]:
    for spec in examined.declared:
        about = sql.Identifier(spec.schema, spec.name).as_string(None)
        try:
            found = declared_index(spec, observe(examined.connection, spec))
        except EverindexError as exc:
            yield unknown(f"declared index {about}: {exc.what} {exc.why}", about=about)
            continue
        if found is None:
            continue
        if found.opclass == spec.opclass:
            yield good(f"declared index {about} is for {spec.operator}, as its searches are", about=about)
        else:
            yield finding(
                f"declared index {about} is of {found.opclass}, declared {spec.opclass}: a search by {spec.operator} cannot "
                "use it and reads the whole table",
                about=about,
                fix=Fix(
                    advice="`everindex deploy` builds the declared one beside it; no option changes the distance of an "
                    "index that is there."
                ),
            )


RULE = Rule(
    slug="declared-index-for-other-distance",
    severity="critical",
    title="every declared index is for the distance that its searches ask for",
    reason="an index answers only the operator of its opclass: an L2 index under cosine searches is there, valid, written "
    "to, and never used (vectorize-io/hindsight#1667).",
    check=check,
)
