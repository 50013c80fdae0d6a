"""Rule: no zero vectors are stored in a column with a cosine index, which leaves them out."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown


def check(examined: Examined) -> Iterator[RuleResult]:
    under_cosine = [
        table
        for table in examined.tables
        if table.relkind != "p" and any(index.opclass.endswith("_cosine_ops") for index in examined.indexes_on(table))
    ]
    for table, sample in examined.samples(under_cosine):
        column = f"column {table.quoted_column} of {table.quoted}"
        if isinstance(sample, str):
            yield unknown(sample, about=table.quoted)
        elif not sample.zero:
            yield good(f"none of {sample.with_vector} sampled vectors in {column} is zero", about=table.quoted)
        else:
            empty_them = sql.SQL("UPDATE {table} SET {column} = NULL WHERE {length}({column}) = 0").format(
                table=sql.Identifier(table.schema, table.name),
                column=sql.Identifier(table.column),
                length=sql.Identifier(
                    examined.extension_schema, "vector_norm" if table.column_type == "vector" else "l2_norm"
                ),
            )
            yield finding(
                f"{sample.zero} of {sample.with_vector} sampled vectors in {column} are zero: a cosine index leaves them out, "
                "and no search finds these rows",
                about=table.quoted,
                fix=Fix(
                    statements=(empty_them.as_string(None),),
                    advice="a zero vector is an embedding that failed unnoticed: stop whatever stores it, set these vectors to "
                    "NULL and embed them again. The UPDATE reads every vector, and fails if the column is NOT NULL.",
                ),
            )


RULE = Rule(
    slug="zero-vectors",
    severity="critical",
    title="no column with a cosine index contains zero vectors",
    reason="the cosine distance to a zero vector is NaN, so pgvector leaves it out of the index (hnswutils.c): of 22 rows a "
    "search through the index found 20 (measured). They come from failed embeddings (UpayanGhosh/Synapse-OSS#46).",
    check=check,
)
