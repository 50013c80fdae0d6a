"""The build rate in rows per second for a shape of index on this server, from past builds or a short trial."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg import sql

from everindex.index.catalog.key import key_sql
from everindex.index.catalog.observed import Observed
from everindex.index.journal import LEAST_PAST_ROWS, last_build
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection
from everindex.units import count_text

#: A trial with this many rows takes a second at most; with fewer than the minimum it would say nothing.
TRIAL_ROWS = 1000
LEAST_TRIAL_ROWS = 200
TRIAL_TIMEOUT = "5s"
#: A trial's graph fits into the processor's cache, that of a build does not. This is the factor by which a build of 60,000 ×
#: 1536 on two shared cores took longer than its trial predicted (docs/measurements/build.md).
CACHE_FACTORS = {"vector": 2.2, "halfvec": 2.2, "bit": 1.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A measured build: its rows and seconds, with one process or, for a past build, with the processes it had."""

    rows: int
    seconds: float
    is_serial: bool
    source: str
    """In words, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRate:
    """Nothing was measured."""

    why: str
    """In words, for people."""


def measured_rate(
    connection: Connection, spec: IndexSpec, observed: Observed, *, with_trial: bool = True
) -> Rate | NoRate:
    """The rate of the last build of the same shape in the journal, else of a trial; if neither is available, the reason.

    The trial copies up to TRIAL_ROWS vectors into a temporary table, builds the index on it, and rolls both back: no
    other session sees or waits for it. Needs the right to make temporary tables.
    """
    past = last_build(connection, spec, dimensions=observed.dimensions)
    if past is not None:
        return Rate(
            rows=past[0],
            seconds=past[1],
            is_serial=False,
            source=f"its last build here, of {count_text(past[0], 'row')}",
        )
    no_past = f"no build of this shape on {LEAST_PAST_ROWS} rows or more is in the journal"
    if not with_trial:
        return NoRate(why=f"{no_past}, and no trial was requested (everindex plan runs one)")
    if observed.is_partitioned:
        return NoRate(why=f"{no_past}, and there are no trials on partitioned tables")
    tried = _trial(connection, spec, observed)
    return tried if isinstance(tried, Rate) else NoRate(why=f"{no_past}, and {tried}")


def _trial(connection: Connection, spec: IndexSpec, observed: Observed) -> Rate | str:
    """The rate of a trial, or why there is none."""
    column = sql.SQL("*") if spec.expression is not None else sql.Identifier(spec.column or "")
    present = (
        sql.SQL("") if spec.column is None else sql.SQL(" WHERE {} IS NOT NULL").format(sql.Identifier(spec.column))
    )
    key = key_sql(
        spec,
        column_type=observed.column_type or spec.key_type,
        dimensions=observed.dimensions or 0,
        extension_schema=observed.extension_schema,
    )
    opclass = sql.Identifier(observed.extension_schema or "public", spec.opclass)
    try:
        with connection.transaction(force_rollback=True):
            for name, value in (("statement_timeout", TRIAL_TIMEOUT), ("maintenance_work_mem", "64MB")):
                connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
            copied = connection.execute(
                sql.SQL("CREATE TEMPORARY TABLE everindex_trial ON COMMIT DROP AS SELECT {} FROM {}{} LIMIT {}").format(
                    column, sql.Identifier(spec.schema, spec.table), present, sql.Literal(TRIAL_ROWS)
                )
            ).rowcount
            if copied < LEAST_TRIAL_ROWS:
                return f"a trial needs {LEAST_TRIAL_ROWS} vectors, but there are only {max(copied, 0)}"
            started = time.perf_counter()
            connection.execute(
                sql.SQL(
                    "CREATE INDEX ON pg_temp.everindex_trial USING hnsw ({} {}) WITH (m = {}, ef_construction = {})"
                ).format(key, opclass, sql.Literal(spec.m), sql.Literal(spec.ef_construction))
            )
            seconds = time.perf_counter() - started
    except psycopg.Error as exc:
        # No privilege for temporary tables, a standby, a slow server: then there is no trial.
        message = (exc.diag.message_primary or type(exc).__name__).rstrip(".")
        return f"a trial failed: {message}"
    seconds *= CACHE_FACTORS[spec.key_type]
    return Rate(rows=copied, seconds=seconds, is_serial=True, source=f"a trial with {count_text(copied, 'row')}")
