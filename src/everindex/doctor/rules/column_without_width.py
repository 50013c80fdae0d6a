"""Rule: every vector column declares its dimensions, without which pgvector cannot index it."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.sampled import ColumnSample


def check(examined: Examined) -> Iterator[RuleResult]:
    without = []
    for table in examined.tables:
        if table.is_partition:
            continue  # the width is that of the parent's column
        if table.dimensions is not None:
            yield good(
                f"column {table.quoted_column} of {table.quoted} has {table.dimensions} dimensions", about=table.quoted
            )
        elif examined.indexes_on(table):
            yield good(
                f"column {table.quoted_column} of {table.quoted} has no dimensions, but is indexed by an expression that has "
                "them",
                about=table.quoted,
            )
        else:
            without.append(table)
    samples = {(table.oid, table.column): sample for table, sample in examined.samples(without)}
    for table in without:
        # Not every column is sampled, but every one is reported.
        found_dimensions, statements = _dimensions_found(samples.get((table.oid, table.column)))
        yield finding(
            f"column {table.quoted_column} of {table.quoted} is {table.column_type} without dimensions{found_dimensions}: no "
            "index can be built on it",
            about=table.quoted,
            fix=Fix(
                statements=tuple(
                    f"ALTER TABLE {table.quoted} ALTER COLUMN {table.quoted_column} TYPE "
                    f"{examined.of_pgvector(table.column_type)}({width})"
                    for width in statements
                ),
                advice="ALTER TABLE blocks all access to the table and rewrites it; on a large table add a new column with "
                "dimensions and fill it in batches. Vectors of several models belong in separate columns, or under "
                "partial indexes on an expression with dimensions.",
            ),
        )


def _dimensions_found(sample: ColumnSample | str | None) -> tuple[str, tuple[int, ...]]:
    if not isinstance(sample, ColumnSample) or sample.narrowest is None or sample.widest is None:
        return "", ()
    if sample.narrowest == sample.widest:
        return f" (all of {sample.with_vector} sampled vectors have {sample.widest})", (sample.widest,)
    return f" ({sample.with_vector} sampled vectors have from {sample.narrowest} to {sample.widest})", ()


RULE = Rule(
    slug="column-without-width",
    severity="warning",
    title="every vector column has dimensions",
    reason="pgvector refuses to index a column without them (`column does not have dimensions`, hnswbuild.c), and nothing "
    "prevents vectors of different models from being mixed.",
    check=check,
)
