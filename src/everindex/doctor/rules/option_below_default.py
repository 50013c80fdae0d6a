"""Rule: no HNSW index was built with an m or ef_construction well below pgvector's defaults."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M

#: Half of pgvector's default m; with a smaller m a node has fewer than 16 links in the lowest layer.
FEW_LINKS = 8


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.settled_indexes:
        if index.method != "hnsw" or index.is_attached:
            continue
        m = index.option("m", DEFAULT_M)
        ef_construction = index.option("ef_construction", DEFAULT_EF_CONSTRUCTION)
        has = f"index {index.quoted} has m = {m} and ef_construction = {ef_construction}"
        if m >= FEW_LINKS and ef_construction >= DEFAULT_EF_CONSTRUCTION:
            yield good(has, about=index.quoted)
            continue
        options = f"m = {max(m, DEFAULT_M)}, ef_construction = {max(ef_construction, DEFAULT_EF_CONSTRUCTION)}"
        yield finding(
            f"{has}; the defaults are {DEFAULT_M} and {DEFAULT_EF_CONSTRUCTION}: smaller values find fewer of the nearest rows",
            about=index.quoted,
            fix=Fix(
                statements=()
                if index.is_partitioned
                else (
                    f"ALTER INDEX {index.quoted} SET ({options})",
                    f"REINDEX INDEX CONCURRENTLY {index.quoted}",
                ),
                advice="measure first (`everindex verify`): small values may be enough. Only the rebuild changes the graph; "
                "ALTER INDEX takes an ACCESS EXCLUSIVE lock for a moment.",
            ),
        )


RULE = Rule(
    slug="option-below-default",
    severity="notice",
    title="no HNSW index is built with unusually small options",
    reason="m and ef_construction limit the recall that any ef_search can reach; they are part of the graph, so only a rebuild "
    "changes them (pgvector, README, Index Options; hnswbuild.c).",
    check=check,
)
