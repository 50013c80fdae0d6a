"""Rule: no table with a vector index is replicated logically, because indexes are not replicated with the rows."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    tables = {index.table_oid: index.quoted_table for index in examined.indexes}
    if not tables:
        return
    rows = examined.rows(
        """
        SELECT c.oid, 'published by', p.pubname
        FROM pg_catalog.pg_publication_tables p
        JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
        WHERE c.oid = ANY(%(tables)s)
        UNION ALL
        SELECT r.srrelid, 'subscribed to by', s.subname
        FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
        WHERE r.srrelid = ANY(%(tables)s)
        ORDER BY 1, 2, 3
        """,
        {"tables": list(tables)},
    )
    if not rows:
        yield good("no table with a vector index is replicated logically")
    for oid, how, name in rows:
        yield finding(
            f'table {tables[oid]} is {how} "{name}": its index is not replicated, and approximate results of the copies differ',
            about=tables[oid],
            fix=Fix(
                advice="declare, build and verify the index on every subscriber separately, and compare copies by recall, not by "
                "equal results. The initial copy of the rows is faster without the index."
            ),
        )


RULE = Rule(
    slug="logical-replication",
    severity="notice",
    title="tables with a vector index are not replicated logically",
    reason="logical replication copies rows, not indexes, and two graphs on the same rows differ (pgvector#853; PostgreSQL "
    "documentation, Logical Replication Restrictions).",
    check=check,
)
