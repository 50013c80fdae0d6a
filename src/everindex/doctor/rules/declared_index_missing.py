"""Rule: every index that the application declares exists under its declared name."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.index.catalog.roles import declared_index, serving_index


def check(examined: Examined) -> Iterator[RuleResult]:
    for spec, about, observed in examined.declared_indexes:
        if isinstance(observed, str):
            yield unknown(observed, about=about)
            continue
        table = sql.Identifier(spec.schema, spec.table).as_string(None)
        found = declared_index(spec, observed)
        if not observed.table_exists:
            yield finding(
                f"declared index {about}: its table {table} "
                + (f"is not a table: {observed.table_is} has that name" if observed.table_is else "does not exist"),
                about=about,
                fix=Fix(advice="correct table and schema in the declaration, or create the table first."),
            )
        elif found is not None:
            state = "exists" if found.is_valid else "exists, but is INVALID (rule index-is-invalid)"
            yield good(f"declared index {about} {state}", about=about)
        elif (serving := serving_index(spec, observed)) is not None:
            yield finding(
                f"declared index {about} does not exist; {serving.name} has its definition and serves under another name",
                about=about,
                fix=Fix(advice="rename it (ALTER INDEX … RENAME TO …): building the declared one as well costs twice."),
            )
        else:
            taken = f"; its name is taken by {observed.name_taken_by}" if observed.name_taken_by else ""
            yield finding(
                f"declared index {about} on {table} does not exist: every search reads the whole table{taken}",
                about=about,
                fix=Fix(advice="`everindex heal` builds it online."),
            )


RULE = Rule(
    slug="declared-index-missing",
    severity="critical",
    title="every declared index exists",
    reason="without it every search sorts the whole table; a restore, a person or a migration tool that does not know HNSW "
    "can drop it unnoticed (prisma/orm#27770).",
    check=check,
)
