"""Rule: a vector column is indexed for one distance only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.index_catalog import CatalogIndex
from everindex.units import count_text


def check(examined: Examined) -> Iterator[RuleResult]:
    on_key: dict[tuple[object, ...], list[CatalogIndex]] = defaultdict(list)
    for index in examined.settled_indexes:
        if not index.is_attached:
            on_key[index.table_oid, index.key, index.predicate].append(index)
    for indexes in on_key.values():
        first = indexes[0]
        key = first.key
        opclasses = sorted({index.opclass for index in indexes})
        if len(opclasses) == 1:
            yield good(
                f"{key} of {first.quoted_table} is indexed for one distance ({opclasses[0]})", about=first.quoted_table
            )
            continue
        described = ", ".join(
            f"{index.quoted} ({index.opclass}, scanned {count_text(examined.index_details[index.oid].scans, 'time')})"
            for index in indexes
        )
        yield finding(
            f"{key} of {first.quoted_table} is indexed for {len(opclasses)} distances: {described}; a search uses only the "
            "index for its own operator, but every write maintains all of them",
            about=first.quoted_table,
            fix=Fix(
                advice="find the operator of the application's searches (<=> cosine, <-> L2, <#> inner product, <+> L1) and "
                "drop the indexes for the others with DROP INDEX CONCURRENTLY."
            ),
        )


RULE = Rule(
    slug="two-distances-on-column",
    severity="notice",
    title="every column is indexed for one distance",
    reason="an index serves only the operator of its opclass; an L2 index on a column with cosine searches is written to but "
    "never read (vectorize-io/hindsight#1667).",
    check=check,
)
