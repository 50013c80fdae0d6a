"""Rule: every partitioned vector index has a valid part on every partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.index.spec import MAX_NAME_BYTES
from everindex.pg.index_catalog import CatalogIndex
from everindex.units import count_text

#: Number of partitions named in the sentence; the rest are counted.
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    oid: int
    schema: str
    name: str
    is_partitioned: bool
    index: CatalogIndex | None
    """Its part of the index."""

    @property
    def is_valid(self) -> bool:
        return self.index is not None and self.index.is_valid

    @property
    def quoted(self) -> str:
        return _quoted(self.schema, self.name)

    @property
    def quoted_index(self) -> str:
        return "" if self.index is None else self.index.quoted


def check(examined: Examined) -> Iterator[RuleResult]:
    for index in examined.indexes:
        if not index.is_partitioned:
            continue
        parts = _partitions(examined, index)
        missing = [part for part in parts if part.index is None]
        invalid = [part for part in parts if part.index is not None and not part.is_valid and not part.is_partitioned]
        if index.is_valid and invalid and not missing:
            names = ", ".join(f"{part.quoted_index} on {part.quoted}" for part in invalid[:NAMED])
            more = f" and {len(invalid) - NAMED} more" if len(invalid) > NAMED else ""
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is valid, but has INVALID parts ({len(invalid)} of "
                f"{len(parts)}: {names}{more}): searches read these partitions in full",
                about=index.quoted,
                fix=Fix(
                    statements=tuple(f"REINDEX INDEX CONCURRENTLY {part.quoted_index}" for part in invalid),
                    advice="each rebuild is online; `everindex heal` does it for a declared index.",
                ),
            )
            continue
        if index.is_valid and not missing:
            yield good(f"index {index.quoted} covers all {count_text(len(parts), 'partition')}", about=index.quoted)
            continue
        if missing:
            names = ", ".join(part.quoted for part in missing[:NAMED])
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is incomplete: it has no part on {len(missing)} of "
                f"{count_text(len(parts), 'partition')} ({names}{more}), and searches read these in full",
                about=index.quoted,
                fix=Fix(
                    statements=tuple(statement for part in missing for statement in _statements(examined, index, part)),
                    advice="each build is online; ATTACH locks only the index. The parent becomes valid with the last part.",
                ),
            )
        elif any(part.is_partitioned and not part.is_valid for part in parts):
            continue  # an incomplete part is itself a partitioned index, and makes this one valid when it becomes valid
        else:
            broken = [part.quoted_index for part in parts if not part.is_valid]
            why = f"its parts {', '.join(broken)} are INVALID" if broken else "all of its parts exist and are valid"
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is INVALID as a whole: {why}",
                about=index.quoted,
                fix=Fix(
                    statements=(
                        *(f"REINDEX INDEX CONCURRENTLY {part}" for part in broken),
                        # Makes PostgreSQL check all parts again and mark the whole index valid.
                        *(f"ALTER INDEX {index.quoted} ATTACH PARTITION {part.quoted_index}" for part in parts[:1]),
                    ),
                    advice="if the index as a whole remains INVALID after that (an older PostgreSQL may not check again), "
                    "create a new one with CREATE INDEX ON ONLY and attach new parts to it.",
                ),
            )


def _partitions(examined: Examined, index: CatalogIndex) -> list[_Part]:
    """The partitions of the index's table."""
    rows = examined.rows(
        # A foreign table has no indexes; a partition that is partitioned itself has a partitioned part, examined on its own.
        sql.SQL(
            """
            SELECT c.oid, n.nspname, c.relname, c.relkind = 'p'
            FROM pg_catalog.pg_inherits h
            JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE h.inhparent = {table} AND c.relkind IN ('r', 'p')
            ORDER BY n.nspname, c.relname
            """
        ).format(table=sql.Literal(index.table_oid))
    )
    attached = {part.table_oid: part for part in examined.indexes if part.parent_oid == index.oid}
    return [
        _Part(oid=row[0], schema=row[1], name=row[2], is_partitioned=row[3], index=attached.get(row[0])) for row in rows
    ]


def _statements(examined: Examined, index: CatalogIndex, part: _Part) -> Iterator[str]:
    """Statements that build the missing part online, or reuse a valid index with the same definition, and attach it."""
    tail = examined.index_details[index.oid].tail
    own = [
        other
        for other in examined.indexes
        if other.table_oid == part.oid
        and other.is_valid
        and not other.is_attached
        and examined.index_details[other.oid].tail == tail
    ]
    if own:
        made = own[0].quoted
    else:
        suffix = f"_{index.method}_{index.oid}"
        name = part.name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
        made = _quoted(part.schema, name)
        new = sql.Identifier(name).as_string(None)
        if part.is_partitioned:
            # This builds nothing: the partitions below it are the next finding.
            yield f"CREATE INDEX {new} ON ONLY {part.quoted} {tail}"
        else:
            yield f"CREATE INDEX CONCURRENTLY {new} ON {part.quoted} {tail}"
    yield f"ALTER INDEX {index.quoted} ATTACH PARTITION {made}"


def _quoted(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)


RULE = Rule(
    slug="partitioned-index-incomplete",
    severity="critical",
    title="every partitioned vector index covers all partitions",
    reason="CREATE INDEX ON ONLY the parent creates an INVALID index that becomes valid when an index of every partition is "
    "attached (PostgreSQL documentation, CREATE INDEX): until then searches read the partitions without an index in full.",
    check=check,
)
