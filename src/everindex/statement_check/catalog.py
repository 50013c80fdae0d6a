"""The tables of a statement as the catalog describes them: their vector columns and indexes, and pgvector's operators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from psycopg import sql

from everindex.errors import StatementNotCheckable
from everindex.pg.index_catalog import catalog_indexes, indexes_query
from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.plan import Names
from everindex.statement_check.row_security import passing_rows

#: PostgreSQL, errcodes.txt.
INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """An hnsw or ivfflat index of a scanned table, or of the partitioned table that it is a part of."""

    schema: str
    name: str
    root: str
    """The name of the partitioned index that it is part of, otherwise its own."""

    table: Names
    method: str
    opclass: str
    operator: str
    """The distance operator that it serves."""

    expression: str
    """The index key, a column or an expression in parentheses, as pg_get_indexdef prints it."""

    is_expression: bool
    predicate: str | None
    is_valid: bool
    is_being_built: bool

    @property
    def names(self) -> Names:
        return (self.schema, self.name)

    @property
    def quoted(self) -> str:
        return quoted(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorColumn:
    """A column of one of pgvector's types."""

    table: Names
    name: str
    type: str
    dimensions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition that a statement reads."""

    names: Names
    rows: int
    """Estimated from its statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A scanned table."""

    names: Names
    rows: int
    """Estimated from its statistics; counted up to a limit if there are none. With partitions, those of the ones read."""

    is_analyzed: bool
    passing: int | None = None
    """The rows that row security lets the role see; None if it does not apply, or they could not be counted."""

    partitions: tuple[Partition, ...] = ()
    """The partitions that the statement reads; empty if the table has none."""

    partitions_in_all: int = 0

    def rows_of(self, names: Names | None) -> int:
        """The rows of the given partition; without partitions, all rows."""
        return next((one.rows for one in self.partitions if one.names == names), self.rows)

    def has(self, names: Names | None) -> bool:
        return names == self.names or any(one.names == names for one in self.partitions)

    @property
    def is_pruned(self) -> bool:
        return len(self.partitions) < self.partitions_in_all

    @property
    def words(self) -> str:
        if not self.is_pruned:
            return f"{self.names[1]} has {self.rows:,} rows"
        return (
            f"{self.names[1]} has {self.rows:,} rows in the {len(self.partitions)} of {self.partitions_in_all} partitions that "
            "are read"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator that a kind of index can order by."""

    name: str
    function: str
    type: str
    opclass: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """pgvector in this database."""

    schema: str
    version: str
    operators: tuple[Operator, ...]


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def literal(value: object) -> str:
    return sql.Literal(value).as_string(None).strip()


def extension(caller: CallerConnection) -> Extension:
    """pgvector, with its library loaded, so that its settings exist. Raises StatementNotCheckable if it is missing."""
    found = caller.rows(
        "SELECT n.nspname::text, e.extversion::text FROM pg_catalog.pg_extension e "
        "JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'"
    )
    if not found:
        raise StatementNotCheckable(
            "this database has no vector index that a statement could use.",
            why="extension 'vector' is not created in it.",
            next_step="connect to the application's database, or create its schema in this one first.",
        )
    schema, version = found[0]
    caller.rows(sql.SQL("SELECT '[1]'::{}::text").format(sql.Identifier(schema, "vector")))
    operators = caller.rows(
        """
        SELECT DISTINCT o.oprname::text, p.proname::text, t.typname::text,
               coalesce(c.opcname::text, f.opfname::text), m.amname <> 'hnsw'
        FROM pg_catalog.pg_amop a
        JOIN pg_catalog.pg_am m ON m.oid = a.amopmethod AND m.amname IN ('hnsw', 'ivfflat')
        JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr
        JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
        JOIN pg_catalog.pg_type t ON t.oid = a.amoplefttype
        JOIN pg_catalog.pg_opfamily f ON f.oid = a.amopfamily
        LEFT JOIN pg_catalog.pg_opclass c ON c.opcfamily = f.oid
        WHERE a.amoppurpose = 'o' ORDER BY 5
        """
    )
    return Extension(
        schema=schema,
        version=version,
        operators=tuple(
            Operator(name=row[0], function=row[1], type=row[2], opclass=row[3])
            for row in {(row[0], row[2]): row for row in reversed(operators)}.values()
        ),
    )


def vector_indexes(caller: CallerConnection, tables: Iterable[Names]) -> list[VectorIndex]:
    """Every hnsw and ivfflat index of these tables and of those that they are partitions of."""
    rows = caller.rows(
        sql.SQL(indexes_query(_OF_TABLES, "operator", "key", "root", "is_in_progress")).format(tables=_pairs(tables))
    )
    found = sorted(catalog_indexes(rows), key=lambda index: (index.schema, index.name))
    return [
        VectorIndex(
            schema=index.schema,
            name=index.name,
            root=index.root or index.name,
            table=(index.table_schema, index.table),
            method=index.method,
            opclass=index.opclass,
            operator=index.operator or "",
            expression=index.key or "",
            is_expression=index.column is None,
            predicate=index.predicate,
            is_valid=index.is_valid,
            is_being_built=index.is_in_progress,
        )
        for index in found
    ]


_OF_TABLES: LiteralString = """am.amname IN ('hnsw', 'ivfflat') AND i.indrelid IN (
  WITH scanned AS (
    SELECT sc.oid FROM pg_catalog.pg_class sc JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
    WHERE (sn.nspname, sc.relname) IN ({tables})
  )
  SELECT oid FROM scanned UNION SELECT pg_catalog.pg_partition_root(oid) FROM scanned)"""


def vector_columns(caller: CallerConnection, tables: Iterable[Names]) -> list[VectorColumn]:
    """The columns of pgvector's types; `dimensions` is None if the column does not fix them."""
    found = caller.rows(
        sql.SQL(
            """
        SELECT n.nspname::text, c.relname::text, a.attname::text, t.typname::text, nullif(a.atttypmod, -1)
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE (n.nspname, c.relname) IN ({tables}) AND a.attnum > 0 AND NOT a.attisdropped
          AND t.typname IN ('vector', 'halfvec', 'sparsevec', 'bit')
        ORDER BY 1, 2, a.attnum
        """
        ).format(tables=_pairs(tables))
    )
    return [VectorColumn(table=(row[0], row[1]), name=row[2], type=row[3], dimensions=row[4]) for row in found]


def tables(
    caller: CallerConnection, scanned: Iterable[Names], *, count_up_to: int, is_filtered: bool = False
) -> list[Table]:
    """The tables among `scanned`, and the partitioned tables that they are partitions of. Counts at most `count_up_to` rows.

    If row security hides rows (`is_filtered`), the rows of a table come only from its statistics.
    """
    order = list(scanned)
    found = caller.rows(
        sql.SQL(
            """
        SELECT n.nspname::text, c.relname::text, sn.nspname::text, s.relname::text, c.oid <> s.oid,
               (SELECT count(*) FROM pg_catalog.pg_partition_tree(c.oid) p WHERE p.isleaf),
               s.reltuples >= 0, greatest(s.reltuples, 0)::bigint
        FROM pg_catalog.pg_class s JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
        JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(s.oid), s.oid)
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE (sn.nspname, s.relname) IN ({tables})
        """
        ).format(tables=_pairs(order))
    )
    found.sort(key=lambda row: order.index((row[2], row[3])))
    return [
        _table(caller, names, [row[2:] for row in found if row[:2] == names], count_up_to, is_filtered=is_filtered)
        for names in dict.fromkeys((row[0], row[1]) for row in found)
    ]


def _table(
    caller: CallerConnection, names: Names, read: list[tuple[Any, ...]], count_up_to: int, *, is_filtered: bool
) -> Table:
    found = Table(
        names=names,
        rows=sum(int(rows) for *_, rows in read),
        is_analyzed=all(is_analyzed for *_, is_analyzed, _ in read),
        partitions=tuple(Partition(names=(row[0], row[1]), rows=int(row[5])) for row in read if row[2]),
        partitions_in_all=int(read[0][3]) if read[0][2] else 0,
    )
    of_these = [partition.names for partition in found.partitions] if found.is_pruned else []
    if is_filtered:
        passing = passing_rows(caller, names, partitions=of_these)
        return replace(found, rows=max(found.rows, passing or 0), passing=passing)
    every = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT FROM {}").format(sql.Identifier(*one)) for one in of_these or [names]
    )
    try:
        with caller.attempt():
            counted = caller.rows(
                sql.SQL("SELECT count(*) FROM ({} LIMIT {}) AS some_rows").format(every, sql.Literal(count_up_to))
            )[0][0]
    except Refused as exc:
        if exc.is_of_a_foreign_server:
            counted = count_up_to  # not worth an error: the estimate must do
        elif of_these and exc.state == INSUFFICIENT_PRIVILEGE:
            return found  # the role may read the partitioned table, but not a partition by its own name
        else:
            raise
    return replace(found, rows=int(counted) if counted < count_up_to else max(found.rows, int(counted)))


def _pairs(tables: Iterable[Names]) -> sql.Composable:
    pairs = [sql.SQL("({}, {})").format(sql.Literal(schema), sql.Literal(name)) for schema, name in tables]
    return sql.SQL(", ").join(pairs) if pairs else sql.SQL("(NULL::name, NULL::name)")
