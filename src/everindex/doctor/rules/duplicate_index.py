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
        # m and ef_construction may differ: both indexes serve the same searches.
        alike[index.table_oid, index.method, index.opclass, index.key, index.predicate].append(index)
    tables_of_several = set()
    for group in alike.values():
        retained, *others = sorted(group, key=lambda index: _rank(index, examined))
        # An attached index can only be dropped with its parent, and the parents form a group of their own.
        for index in (other for other in others if not other.is_attached):
            tables_of_several.add(index.table_oid)
            scans = examined.index_details[index.oid].scans
            yield finding(
                f"index {index.quoted} on {index.quoted_table} serves the same searches as {retained.quoted}, and every write "
                f"maintains both; it takes {size_text(index.size_bytes)} and was scanned {count_text(scans, 'time')}, "
                f"{retained.quoted} {count_text(examined.index_details[retained.oid].scans, 'time')}",
                about=index.quoted,
                fix=Fix(
                    statements=(f"DROP INDEX {'' if index.is_partitioned else 'CONCURRENTLY '}{index.quoted}",),
                    advice="compare m and ef_construction of the two indexes (\\d TABLE in psql), and keep the better one.",
                ),
            )
    for table_oid, table in {index.table_oid: index.quoted_table for index in examined.settled_indexes}.items():
        if table_oid not in tables_of_several:
            yield good(f"no two vector indexes on {table} have the same definition", about=table)


def _rank(index: CatalogIndex, examined: Examined) -> tuple[object, ...]:
    """Sort key that puts the index to keep first: declared, then attached, then most scanned."""
    is_declared = any(
        (spec.schema, spec.table, spec.name) == (index.table_schema, index.table, index.name)
        for spec in examined.declared
    )
    scans = examined.index_details[index.oid].scans
    return not is_declared, not index.is_attached, -scans, index.name


RULE = Rule(
    slug="duplicate-index",
    severity="warning",
    title="no vector index exists twice",
    reason="two indexes with the same table, method, opclass, key and predicate serve the same searches: one of them only slows "
    "down writes and VACUUM and takes cache (five HNSW indexes of 1.2 GB, one an exact duplicate: alibaizhanov/mengram#122).",
    check=check,
)
