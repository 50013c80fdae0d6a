"""Rule: row security does not remove the candidates of a vector search after the index scan."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_database
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import count_text


def check(examined: Examined) -> Iterator[RuleResult]:
    indexed = {index.table_oid: index for index in examined.indexes if index.is_valid}
    if not indexed:
        return
    secured = examined.rows(
        """
        SELECT c.oid, (SELECT count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)
        FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s) AND c.relrowsecurity ORDER BY c.oid
        """,
        (list(indexed),),
    )
    if not secured:
        return
    knows = "hnsw.iterative_scan" in examined.library_settings
    mode = examined.setting("hnsw.iterative_scan") if knows else "off"
    for oid, policies in secured:
        table = indexed[oid].quoted_table
        if mode != "off":
            yield good(f"row security of {table} filters an iterative scan ({mode}), which continues", about=table)
            continue
        fix = Fix(
            statements=(set_for_database(examined.capabilities.database, "hnsw.iterative_scan", "strict_order"),)
            if knows
            else (),
            advice="or a partial index or a partition for each large tenant. The number of rows and the time of a search reveal "
            "something about other tenants' rows either way.",
        )
        yield finding(
            f"table {table} has row security ({count_text(policies, 'policy', 'policies')}): the index finds candidates among "
            "all rows, and the policy then removes those of other users, so searches return too few",
            about=table,
            fix=fix,
        )


RULE = Rule(
    slug="rls-post-filter",
    severity="warning",
    title="row security does not shorten search results",
    reason="a policy is a filter after the index scan, like any other WHERE (pgvector README, Filtering; "
    "pgEdge/pgedge-rag-server#50).",
    check=check,
)
