"""Rule: max_wal_size holds the WAL of a rebuild of the largest vector index."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_server
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import size_setting, size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    indexes = [index for index in examined.indexes if not index.is_partitioned]
    if not indexes:
        return
    limit = examined.bytes_of("max_wal_size")
    largest = max(indexes, key=lambda index: index.size_bytes)
    if largest.size_bytes <= limit:
        yield good(
            f"the largest vector index ({size_text(largest.size_bytes)}) is smaller than max_wal_size ({size_text(limit)})"
        )
        return
    yield finding(
        f"a rebuild of {largest.quoted} writes {size_text(largest.size_bytes)} of WAL at its end, but max_wal_size is "
        f"{size_text(limit)}: checkpoints follow one another and standbys fall behind",
        about=largest.quoted,
        fix=Fix(
            statements=set_for_server("max_wal_size", size_setting(2 * largest.size_bytes)),
            advice="if the disk has the space; otherwise rebuild at a quiet time.",
        ),
    )


RULE = Rule(
    slug="wal-smaller-than-index",
    severity="notice",
    title="max_wal_size is large enough for a rebuild",
    reason="an HNSW build writes the whole index to WAL when the graph is done (pgvector, hnswbuild.c; PostgreSQL documentation, "
    "WAL Configuration).",
    check=check,
)
