"""Rule: the vectors in an inner product index have length 1."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.pg.vector_type import UNIT_TOLERANCE


def check(examined: Examined) -> Iterator[RuleResult]:
    for_inner_product = {
        (table.oid, table.column): any(index.opclass.endswith("_ip_ops") for index in examined.indexes_on(table))
        for table in examined.tables
        if table.relkind != "p"
        and any(index.opclass.endswith(("_ip_ops", "_cosine_ops")) for index in examined.indexes_on(table))
    }
    tables = [table for table in examined.tables if (table.oid, table.column) in for_inner_product]
    for table, sample in examined.samples(tables):
        if isinstance(sample, str):
            yield unknown(sample, about=table.quoted)
            continue
        column = f"column {table.quoted_column} of {table.quoted}"
        lengths = f"{sample.not_unit} of {sample.with_vector} sampled vectors in {column} do not have length 1 ± {UNIT_TOLERANCE}"
        if for_inner_product[table.oid, table.column] and sample.not_unit:
            yield finding(
                f"{lengths}, but an inner product index orders them: longer vectors come first, whatever their meaning",
                about=table.quoted,
                fix=Fix(
                    advice="if the model is meant for that, all is well. Otherwise search by cosine (<=>, with an index for it), "
                    "or store unit vectors (l2_normalize)."
                ),
            )
        elif (
            not for_inner_product[table.oid, table.column] and sample.with_vector and not sample.not_unit + sample.zero
        ):
            yield good(
                f"{lengths}: an inner product index would give the same order as cosine, faster", about=table.quoted
            )
        else:
            yield good(lengths, about=table.quoted)


RULE = Rule(
    slug="vectors-not-normalised",
    severity="notice",
    title="an inner product index holds unit vectors",
    reason="only for vectors of length 1 does the inner product give the same order as cosine, and faster (pgvector, README, "
    "Performance); otherwise it prefers long vectors.",
    check=check,
)
