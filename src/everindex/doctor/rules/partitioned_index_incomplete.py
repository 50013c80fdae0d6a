"""Has a partitioned vector index partitions without a part of it?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from everindex.doctor.examined import Examined, VectorIndex
from everindex.doctor.rule import Answer, Fix, Rule, finding, good
from everindex.index.spec import MAX_NAME_BYTES

#: Named in the sentence; more are counted.
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partition:
    oid: int
    schema: str
    name: str
    is_partitioned: bool
    has_part: bool

    @property
    def quoted(self) -> str:
        return _quoted(self.schema, self.name)


def ask(examined: Examined) -> Iterator[Answer]:
    for index in examined.indexes:
        if not index.is_partitioned:
            continue
        partitions, invalid = _partitions(examined, index)
        missing = [partition for partition in partitions if not partition.has_part]
        if index.is_valid and not missing:
            yield good(f"index {index.quoted} is complete over {len(partitions)} partitions", about=index.quoted)
            continue
        if missing:
            names = ", ".join(partition.quoted for partition in missing[:NAMED])
            more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is incomplete: {len(missing)} of {len(partitions)} partitions "
                f"have no part of it ({names}{more}), and are read in full",
                about=index.quoted,
                fix=Fix(
                    statements=tuple(
                        statement for partition in missing for statement in _statements(examined, index, partition)
                    ),
                    advice="each build is online; ATTACH locks only the index. The parent turns valid with the last one.",
                ),
            )
        else:
            why = f"its parts {', '.join(invalid)} are INVALID" if invalid else "all of its parts are there and valid"
            yield finding(
                f"index {index.quoted} on {index.quoted_table} is INVALID as a whole: {why}",
                about=index.quoted,
                fix=Fix(
                    statements=tuple(f"REINDEX INDEX CONCURRENTLY {part}" for part in invalid),
                    advice="the parent turns valid when a part is attached while all others are valid; an ATTACH of a part "
                    "that is attached already checks it again.",
                ),
            )


def _partitions(examined: Examined, index: VectorIndex) -> tuple[list[_Partition], list[str]]:
    """The partitions of the index's table, each with whether it has a part of the index; and the parts that are INVALID."""
    rows = examined.rows(
        # A foreign table has no indexes; a partition that is partitioned itself has a partitioned part, asked on its own.
        sql.SQL(
            """
            SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', part.oid IS NOT NULL,
                   part.relkind = 'i' AND NOT i.indisvalid, pn.nspname, part.relname
            FROM pg_catalog.pg_inherits h
            JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN (pg_catalog.pg_inherits ih JOIN pg_catalog.pg_index i ON i.indexrelid = ih.inhrelid
                       JOIN pg_catalog.pg_class part ON part.oid = ih.inhrelid
                       JOIN pg_catalog.pg_namespace pn ON pn.oid = part.relnamespace)
                   ON ih.inhparent = {index} AND i.indrelid = c.oid
            WHERE h.inhparent = {table} AND c.relkind IN ('r', 'p')
            ORDER BY n.nspname, c.relname
            """
        ).format(index=sql.Literal(index.oid), table=sql.Literal(index.table_oid))
    )
    partitions = [
        _Partition(oid=row[0], schema=row[1], name=row[2], is_partitioned=row[3], has_part=row[4]) for row in rows
    ]
    return partitions, [_quoted(row[6], row[7]) for row in rows if row[5]]


def _statements(examined: Examined, index: VectorIndex, partition: _Partition) -> Iterator[str]:
    """Builds the missing part online, or takes a valid index of the same definition, and attaches it."""
    tail = examined.index_details[index.oid].tail
    own = [
        other
        for other in examined.indexes
        if other.table_oid == partition.oid
        and other.is_valid
        and not examined.index_details[other.oid].is_attached
        and examined.index_details[other.oid].tail == tail
    ]
    if own:
        part = own[0].quoted
    else:
        suffix = f"_{index.method}_{index.oid}"
        part_name = partition.name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix
        part = _quoted(partition.schema, part_name)
        new = sql.Identifier(part_name).as_string(None)
        if partition.is_partitioned:
            # Nothing is built by it: its own partitions are the next finding.
            yield f"CREATE INDEX {new} ON ONLY {partition.quoted} {tail}"
        else:
            yield f"CREATE INDEX CONCURRENTLY {new} ON {partition.quoted} {tail}"
    yield f"ALTER INDEX {index.quoted} ATTACH PARTITION {part}"


def _quoted(schema: str, name: str) -> str:
    return sql.Identifier(schema, name).as_string(None)


RULE = Rule(
    slug="partitioned-index-incomplete",
    severity="critical",
    title="every partitioned vector index covers all partitions",
    reason="CREATE INDEX ON ONLY the parent makes an INVALID index that turns valid when every partition's own is attached "
    "(PostgreSQL documentation, CREATE INDEX): until then searches read the partitions without one in full.",
    ask=ask,
)
