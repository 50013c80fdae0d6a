"""Rule: no two vector indexes share table, method, opclass, key and predicate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.pg.index_catalog import CatalogIndex
from everindex.units import count_text, size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    alike: dict[tuple[object, ...], list[CatalogIndex]] = defaultdict(list)
    for index in examined.settled_indexes:
        # m and ef_construction may differ: both answer the same searches.
        alike[index.table_oid, index.method, index.opclass, index.key, index.predicate].append(index)
    tables_of_several = set()
    for group in alike.values():
        kept, *others = sorted(group, key=lambda index: _rank(index, examined))
        # What is attached goes only with its parent, and the parents are a group of their own.
        for index in (other for other in others if not other.is_attached):
            tables_of_several.add(index.table_oid)
            scans = examined.index_details[index.oid].scans
            yield finding(
                f"index {index.quoted} on {index.quoted_table} answers the same searches as {kept.quoted}: writers pay for "
                f"both; it takes {size_text(index.size_bytes)} and was scanned {count_text(scans, 'time')}, "
                f"{kept.quoted} {count_text(examined.index_details[kept.oid].scans, 'time')}",
                about=index.quoted,
                fix=Fix(
                    statements=(f"DROP INDEX {'' if index.is_partitioned else 'CONCURRENTLY '}{index.quoted}",),
                    advice="compare m and ef_construction of the two (\\d of the table), and keep the better one.",
                ),
            )
    for table_oid, table in {index.table_oid: index.quoted_table for index in examined.settled_indexes}.items():
        if table_oid not in tables_of_several:
            yield good(f"no two vector indexes on {table} have the same definition", about=table)


def _rank(index: CatalogIndex, examined: Examined) -> tuple[object, ...]:
    """The one to keep comes first: declared, attached, most scanned."""
    is_declared = any(
        (spec.schema, spec.table, spec.name) == (index.table_schema, index.table, index.name)
        for spec in examined.declared
    )
    scans = examined.index_details[index.oid].scans
    return not is_declared, not index.is_attached, -scans, index.name


RULE = Rule(
    slug="duplicate-index",
    severity="warning",
    title="no vector index is there twice",
    reason="two indexes of one table, method, opclass, key and predicate answer the same searches: one of them only makes "
    "writes, VACUUM and the cache slower (five HNSW indexes of 1.2 GB, one an exact duplicate: alibaizhanov/mengram#122).",
    check=check,
)
