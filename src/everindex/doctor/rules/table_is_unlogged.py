"""Rule: no table with a vector column is UNLOGGED, because a crash empties such a table."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.heaps:
        if not examined.table_details[table.oid].is_unlogged:
            yield good(f"table {table.quoted} is logged", about=table.quoted)
            continue
        yield finding(
            f"table {table.quoted} is UNLOGGED: a crash empties it and its indexes, and no replica has its rows",
            about=table.quoted,
            fix=Fix(
                statements=(f"ALTER TABLE {table.quoted} SET LOGGED",),
                advice="this rewrites the table and its indexes, and blocks all access meanwhile. A table that can be refilled "
                "at any time may remain UNLOGGED.",
            ),
        )


RULE = Rule(
    slug="table-is-unlogged",
    severity="warning",
    title="tables with vectors survive a crash",
    reason="an unlogged table is truncated after a crash and not replicated (PostgreSQL documentation, CREATE TABLE, UNLOGGED); "
    "pgvector before 0.7.2 also had a bug in HNSW indexes on them (CHANGELOG).",
    check=check,
)
