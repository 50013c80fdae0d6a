"""Rule: no ivfflat index serves the same searches as an hnsw index of its table."""

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
            yield good(f"ivfflat index {index.quoted} has no hnsw counterpart", about=index.quoted)
            continue
        yield finding(
            f"ivfflat index {index.quoted} ({size_text(index.size_bytes)}) has the same key and operator as hnsw index "
            f"{beside.quoted}: the planner chooses the cheaper one, and every write maintains both",
            about=index.quoted,
            fix=Fix(
                statements=(f"DROP INDEX {'' if index.is_partitioned else 'CONCURRENTLY '}{index.quoted}",),
                advice="check with EXPLAIN which one the application's searches use before you drop either.",
            ),
        )


def _searches(index: CatalogIndex) -> tuple[object, ...]:
    # The opclasses of both methods have the same names.
    return index.table_oid, index.opclass, index.key, index.predicate


RULE = Rule(
    slug="second-method-on-column",
    severity="warning",
    title="no ivfflat index serves the same searches as an hnsw index",
    reason="with both on one column the planner chooses the cheaper, usually hnsw, and the other is only written to "
    "(pgvector/pgvector#420, pgvector/pgvector#743).",
    check=check,
)
