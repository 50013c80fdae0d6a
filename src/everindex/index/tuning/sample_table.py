"""The sample on which other configurations are tried: a temporary table of this session, filled from the real one.

No other session sees it or waits for it, it writes no WAL, and it disappears with the session, however that ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg import sql

from everindex.index.build.footprint import PAGE_BYTES, index_bytes, value_bytes
from everindex.index.build.preflight import see_machine
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.recall.probe import VALUE_TYPES
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

TABLE = "everindex_sample"
INDEX = "everindex_sample_idx"
#: Maximum memory of the backend for pages of the sample; the rest comes from the system's cache.
BUFFERS_BYTES = 512 * 1024 * 1024
#: Share of the free disk space that the sample and its largest index may take.
DISK_SHARE = 0.5
#: Bytes of a row with its TOAST, in addition to the vector itself.
ROW_OVERHEAD_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTable:
    """The temporary table, as a declared one."""

    spec: IndexSpec
    """The declaration for the temporary table; without a predicate, since only rows that satisfy it were copied."""

    observed: Observed
    rows: int
    is_whole: bool
    """True when every row that the index would hold is in it."""


@contextmanager
def sample_table(
    connection: Connection, spec: IndexSpec, observed: Observed, *, rows: int
) -> Iterator[SampleTable | str]:
    """Copies up to `rows` rows for the duration of the block, or yields the reason why there is no sample.

    `connection` must not have used a temporary table before. Takes ACCESS SHARE on the table while it is copied.
    """
    there = count_rows(connection, spec)
    wanted = min(rows, there, _rows_on_disk(connection, spec, observed))
    if wanted < 2:
        yield "there are fewer than two rows with a vector" if there < 2 else "the disk has no space for a sample"
        return
    _set_buffers(connection, spec, observed, wanted)
    with translate_errors("copying a sample of the rows"):
        copied = connection.execute(_copy_statement(spec, observed, wanted=wanted, there=there)).rowcount
        connection.execute(sql.SQL("ANALYZE pg_temp.{}").format(sql.Identifier(TABLE)))
        row = connection.execute(
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE oid = pg_catalog.pg_my_temp_schema()"
        ).fetchone()
    assert row is not None  # the table is in it
    try:
        placed = replace(spec, schema=row[0], table=TABLE, name=INDEX, predicate=None, dimensions=None)
        seen = replace(observe(connection, placed), estimated_rows=copied)
        yield SampleTable(spec=placed, observed=seen, rows=copied, is_whole=wanted >= there)
    finally:
        if not connection.closed:
            connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(sql.Identifier(TABLE)))


def _copy_statement(spec: IndexSpec, observed: Observed, *, wanted: int, there: int) -> sql.Composed:
    column = sql.SQL("*") if spec.column is None or spec.expression is not None else sql.Identifier(spec.column)
    conditions = [] if spec.column is None else [sql.SQL("{} IS NOT NULL").format(sql.Identifier(spec.column))]
    if spec.predicate_text is not None:
        conditions.append(sql.SQL("({})").format(sql.SQL(spec.predicate_text)))
    where = sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
    # A share of all rows, whatever their number; rows that the index would not hold reduce the sample as they do the table.
    share = sql.Literal(100.0 * wanted / there)
    method = sql.SQL("") if wanted >= there else sql.SQL(" TABLESAMPLE BERNOULLI ({}) REPEATABLE (1)").format(share)
    return sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {} FROM {}{}{}").format(
        sql.Identifier(TABLE), column, sql.Identifier(spec.schema, spec.table), method, where
    )


def _set_buffers(connection: Connection, spec: IndexSpec, observed: Observed, rows: int) -> None:
    """Sets the backend's own buffers for temporary tables: enough for index and rows, within limits."""
    wanted = _bytes_of(spec, observed, rows)
    with translate_errors("reserving memory for a sample"):
        cache = connection.execute(
            "SELECT setting::bigint * 8192 / 8 FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size'"
        ).fetchone()
        bound = min(BUFFERS_BYTES, int(cache[0]) if cache else BUFFERS_BYTES)
        pages = max(1024, min(wanted, bound) // PAGE_BYTES)
        connection.execute("SELECT pg_catalog.set_config('temp_buffers', %s, false)", (str(pages),))


def _rows_on_disk(connection: Connection, spec: IndexSpec, observed: Observed) -> int:
    free = see_machine(connection).disk_free_bytes
    if free is None:
        return 2**62
    return int(free * DISK_SHARE) // max(1, _bytes_of(spec, observed, 1000) // 1000)


def _bytes_of(spec: IndexSpec, observed: Observed, rows: int) -> int:
    dimensions = observed.dimensions or 1
    row = value_bytes(observed.column_type, dimensions) if observed.column_type in VALUE_TYPES else PAGE_BYTES
    return rows * (row + ROW_OVERHEAD_BYTES) + index_bytes(
        rows=rows, dimensions=dimensions, m=spec.m, key_type=spec.key_type
    )
