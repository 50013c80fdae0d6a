"""Observation: the declared table, its column and every vector index on it, as the catalog describes them. Reads only."""

from __future__ import annotations

from dataclasses import replace
from typing import LiteralString

from everindex.errors import StatementFailed
from everindex.index.catalog.canonical import canonical_texts
from everindex.index.catalog.observed import Observed, ObservedIndex, ObservedPartition
from everindex.index.spec import DEFAULT_EF_CONSTRUCTION, DEFAULT_M, IndexSpec
from everindex.pg.capabilities import parse_version
from everindex.pg.connections import Connection
from everindex.pg.index_catalog import CatalogIndex, catalog_indexes, indexes_query, table_oid_of
from everindex.pg.sqlstate import translate_errors

#: An index that is dropped during an observation is gone at the next attempt; several may disappear one after the other.
LOOKS = 5


def observe(connection: Connection, spec: IndexSpec) -> Observed:
    """Observes `spec`'s table in the current database. Reads only; takes ACCESS SHARE.

    For a declared expression or predicate that the catalog prints differently, an empty temporary table is created and
    rolled back, to find out how the catalog would print them. Raises SpecIllegal when PostgreSQL cannot parse them.
    """
    for _ in range(LOOKS - 1):
        try:
            return _look(connection, spec)
        except StatementFailed as exc:
            # PostgreSQL, "cache lookup failed": an index was dropped while its definition was being printed.
            if getattr(exc.__cause__, "sqlstate", None) != "XX000":
                raise
    return _look(connection, spec)


def _look(connection: Connection, spec: IndexSpec) -> Observed:
    with translate_errors("reading the catalog"):
        table = connection.execute(
            """
            SELECT c.oid, c.relkind, t.typname, nullif(a.atttypmod, -1),
                   CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint ELSE 0 END,
                   c.relkind <> 'p' AND pg_catalog.pg_relation_size(c.oid) = 0, pg_catalog.pg_table_size(c.oid)
            FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = %s AND NOT a.attisdropped
            LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'm')
            """,
            (spec.column, spec.schema, spec.table),
        ).fetchone()
        if table is None:
            return Observed(
                table_exists=False,
                table_is=_table_is(connection, spec),
                name_taken_by=_name_taken_by(connection, spec, table_oid=0),
            )
        oid, is_partitioned = table[0], table[1] == "p"
        partitions = _partitions(connection, oid) if is_partitioned else ()
        found = _indexes(connection, [oid, *(part_oid for part_oid, _ in partitions)], also_named=spec.name)
        extension = connection.execute(
            "SELECT n.nspname, e.extversion, current_setting('is_superuser') = 'on' FROM (VALUES (1)) AS one(row) "
            "LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'vector' "
            "LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
        ).fetchone()
        assert extension is not None  # always one row
        observed = Observed(
            table_exists=True,
            is_partitioned=is_partitioned,
            is_empty=table[5],
            column_type=table[2],
            dimensions=table[3],
            estimated_rows=table[4] or sum(part.estimated_rows for _, part in partitions),
            table_bytes=table[6] or 0,
            indexes=found.get(oid, ()),
            partitions=tuple(replace(part, indexes=found.get(part_oid, ())) for part_oid, part in partitions),
            name_taken_by=_name_taken_by(connection, spec, table_oid=oid),
            extension_schema=extension[0],
            extension_version=parse_version(extension[1]),
            is_superuser=extension[2],
        )
    return _with_canonical(connection, spec, observed)


def _with_canonical(connection: Connection, spec: IndexSpec, observed: Observed) -> Observed:
    if (spec.expression is None and spec.predicate is None) or observed.extension_schema is None:
        return observed
    texts = canonical_texts(
        connection, spec, column_type=observed.column_type, extension_schema=observed.extension_schema
    )
    if texts is None:
        return observed
    return replace(
        observed,
        canonical_expression=texts.expression,
        canonical_predicate=texts.predicate,
        dimensions=texts.dimensions if spec.expression is not None else observed.dimensions,
    )


def in_search_path(connection: Connection, spec: IndexSpec) -> IndexSpec:
    """`spec` in the schema that its unqualified table name resolves to on this connection; unchanged if it does not resolve, or
    if it is located already. Reads only.
    """
    if spec.is_located:
        return spec
    row = connection.execute(
        """
        SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident(%s))
        """,
        (spec.table,),
    ).fetchone()
    return spec if row is None else replace(spec, schema=row[0])


def _partitions(connection: Connection, oid: int) -> list[tuple[int, ObservedPartition]]:
    rows = connection.execute(
        """
        SELECT c.oid, n.nspname, c.relname, pn.nspname, p.relname, c.relkind::text,
               c.relkind = 'r' AND pg_catalog.pg_relation_size(c.oid) = 0,
               CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint ELSE 0 END
        FROM pg_catalog.pg_partition_tree(%s) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class p ON p.oid = t.parentrelid
        JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
        WHERE t.level > 0 ORDER BY t.level, n.nspname, c.relname
        """,
        (oid,),
    ).fetchall()
    return [
        (
            row[0],
            ObservedPartition(
                schema=row[1],
                table=row[2],
                parent=(row[3], row[4]),
                is_partitioned=row[5] == "p",
                is_foreign=row[5] == "f",
                is_empty=row[6],
                estimated_rows=row[7],
                indexes=(),
            ),
        )
        for row in rows
    ]


def _indexes(connection: Connection, table_oids: list[int], *, also_named: str) -> dict[int, tuple[ObservedIndex, ...]]:
    """The vector indexes of each table. Reads only."""
    rows = connection.execute(_VECTOR_INDEXES, (table_oids, also_named)).fetchall()
    found: dict[int, tuple[ObservedIndex, ...]] = {}
    for index in catalog_indexes(rows):
        found[index.table_oid] = (*found.get(index.table_oid, ()), _observed_index(index))
    return found


_VECTOR_INDEXES = indexes_query(
    "i.indrelid = ANY(%s) AND (am.amname IN ('hnsw', 'ivfflat') OR c.relname = %s)", "size_bytes", "builder_pid"
)


def _observed_index(index: CatalogIndex) -> ObservedIndex:
    return ObservedIndex(
        oid=index.oid,
        name=index.name,
        method=index.method,
        opclass=index.opclass,
        column=index.column,
        expression=index.expression,
        predicate=index.predicate,
        m=index.option("m", DEFAULT_M),
        ef_construction=index.option("ef_construction", DEFAULT_EF_CONSTRUCTION),
        is_valid=index.is_valid,
        is_ready=index.is_ready,
        size_bytes=index.size_bytes,
        definition=index.definition,
        builder_pid=index.builder_pid,
        is_partitioned=index.is_partitioned,
        parent_oid=index.parent_oid,
        comment=index.comment,
        filenode=index.filenode,
    )


def _table_is(connection: Connection, spec: IndexSpec) -> str | None:
    row = connection.execute(
        "SELECT CASE c.relkind WHEN 'v' THEN 'a view' WHEN 'f' THEN 'a foreign table' WHEN 'S' THEN 'a sequence' "
        "WHEN 'i' THEN 'an index' ELSE 'something else' END FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (spec.schema, spec.table),
    ).fetchone()
    return None if row is None else str(row[0])


def _name_taken_by(connection: Connection, spec: IndexSpec, *, table_oid: int) -> str | None:
    row = connection.execute(_NAME_TAKEN_BY, (spec.schema, spec.name, table_oid)).fetchone()
    return None if row is None else str(row[0])


_NAME_TAKEN_BY: LiteralString = f"""
    SELECT CASE c.relkind WHEN 'i' THEN 'an index on ' || found.table_oid::regclass::text WHEN 'r' THEN 'a table'
                          WHEN 'v' THEN 'a view' WHEN 'S' THEN 'a sequence' ELSE 'another relation' END
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT {table_oid_of("c.oid")} AS table_oid) AS found
    WHERE n.nspname = %s AND c.relname = %s AND (found.table_oid IS NULL OR found.table_oid <> %s)
"""  # noqa: S608
