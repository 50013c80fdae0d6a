"""Rule: every vector column is narrow enough for an HNSW index of its type, or indexed by an expression."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.vector_objects import VectorTable
from everindex.index.spec import MAX_DIMENSIONS
from everindex.pg.capabilities import HALFVEC_AND_BIT_PGVECTOR


def check(examined: Examined) -> Iterator[RuleResult]:
    for table in examined.tables:
        limit = MAX_DIMENSIONS.get(table.column_type)
        if table.is_partition or table.dimensions is None or limit is None:
            continue
        column = f"column {table.quoted_column} of {table.quoted}"
        if table.dimensions <= limit:
            yield good(f"{column} has {table.dimensions} dimensions; up to {limit} can be indexed", about=table.quoted)
        elif examined.indexes_on(table):
            yield good(
                f"{column} has {table.dimensions} dimensions and is indexed by an expression", about=table.quoted
            )
        else:
            yield finding(
                f"{column} has {table.dimensions} dimensions; an HNSW index on {table.column_type} holds at most {limit}",
                about=table.quoted,
                fix=_fix(table, examined),
            )


def _fix(table: VectorTable, examined: Examined) -> Fix:
    assert table.dimensions is not None
    if (examined.capabilities.extension_version or (0,)) < HALFVEC_AND_BIT_PGVECTOR:
        return Fix(advice="update pgvector: 0.7.0 added indexes on halfvec (4,000 dimensions) and bit (64,000).")
    concurrently = "" if table.relkind == "p" else "CONCURRENTLY "
    create = f"CREATE INDEX {concurrently}ON {table.quoted} USING hnsw "
    if table.dimensions <= MAX_DIMENSIONS["halfvec"]:
        key = f"({table.quoted_column}::{examined.of_pgvector('halfvec')}({table.dimensions}))"
        return Fix(
            statements=(f"{create}({key} {examined.of_pgvector('halfvec_cosine_ops')})",),
            advice="an index in half precision, for cosine distance; use the opclass of your searches. Searches must cast their "
            "column and vector in the same way. " + _partitioned(table),
        )
    if table.dimensions <= MAX_DIMENSIONS["bit"]:
        key = f"(({examined.of_pgvector('binary_quantize')}({table.quoted_column}))::bit({table.dimensions}))"
        return Fix(
            statements=(f"{create}({key} {examined.of_pgvector('bit_hamming_ops')})",),
            advice="an index on one bit per dimension: searches fetch some hundred candidates by <~> and order them by the "
            "exact distance. Or index the first dimensions with subvector(), for models that allow it. "
            + _partitioned(table),
        )
    return Fix(advice="use a model with fewer dimensions, or its `dimensions` option, or index a subvector().")


def _partitioned(table: VectorTable) -> str:
    return (
        "On a partitioned table this blocks writers: build on each partition and attach."
        if table.relkind == "p"
        else ""
    )


RULE = Rule(
    slug="dimensions-beyond-limit",
    severity="warning",
    title="every vector column can be indexed with its dimensions",
    reason="an HNSW index holds at most 2,000 dimensions of vector, 4,000 of halfvec and 64,000 of bit (pgvector, hnsw.h): "
    "a wider column is always read in full, and the migration that indexes it fails half-way (maxkuminov/obsidian-mcp#6).",
    check=check,
)
