"""Rule: no ivfflat index answers the same searches as an hnsw index of its table."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.index_catalog import CatalogIndex
from everindex.units import size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    hnsw = {_searches(index): index for index in examined.settled_indexes if index.method == "hnsw"}
    for index in examined.settled_indexes:
        if index.method != "ivfflat" or index.is_attached:
            continue
        beside = hnsw.get(_searches(index))
        if beside is None:
            yield good(f"ivfflat index {index.quoted} has no hnsw index beside it", about=index.quoted)
            continue
        yield finding(
            f"ivfflat index {index.quoted} ({size_text(index.size_bytes)}) stands beside hnsw index {beside.quoted} on the "
            "same key and for the same operator: the planner takes the cheaper one, writers pay for both",
            about=index.quoted,
            fix=Fix(
                statements=(f"DROP INDEX {'' if index.is_partitioned else 'CONCURRENTLY '}{index.quoted}",),
                advice="see with EXPLAIN which one the application's searches use before dropping either.",
            ),
        )


def _searches(index: CatalogIndex) -> tuple[object, ...]:
    # The opclasses of both methods have the same names.
    return index.table_oid, index.opclass, index.key, index.predicate


RULE = Rule(
    slug="second-method-on-column",
    severity="warning",
    title="no ivfflat index stands beside an hnsw index for the same searches",
    reason="with both on one column the planner takes the cheaper, usually hnsw, and the other is only written to "
    "(pgvector/pgvector#420, pgvector/pgvector#743).",
    check=check,
)
