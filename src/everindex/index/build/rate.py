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

#: A trial with so many rows takes a second at the most; with fewer than the least it would say nothing.
TRIAL_ROWS = 1000
LEAST_TRIAL_ROWS = 200
TRIAL_TIMEOUT = "5s"
#: A trial's graph lies in the processor's cache, that of a build does not: by so much a build took longer than its trial
#: promised, 60,000 × 1536 on two shared cores (docs/measurements/build.md).
CACHE_FACTORS = {"vector": 2.2, "halfvec": 2.2, "bit": 1.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A measured build: so many rows in so many seconds, by one process or, in a past build, by those it had."""

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
    """The last build of the same shape in the journal, else a trial; where neither can be had, why not.

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
    no_past = f"no build of this shape over {LEAST_PAST_ROWS} rows or more is in the journal"
    if not with_trial:
        return NoRate(why=f"{no_past}, and no trial was asked for (everindex plan makes one)")
    if observed.is_partitioned:
        return NoRate(why=f"{no_past}, and a partitioned table is not tried")
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
                return f"a trial takes {LEAST_TRIAL_ROWS} vectors, and {max(copied, 0)} are there"
            started = time.perf_counter()
            connection.execute(
                sql.SQL(
                    "CREATE INDEX ON pg_temp.everindex_trial USING hnsw ({} {}) WITH (m = {}, ef_construction = {})"
                ).format(key, opclass, sql.Literal(spec.m), sql.Literal(spec.ef_construction))
            )
            seconds = time.perf_counter() - started
    except psycopg.Error as exc:
        # No right to temporary tables, a standby, a slow server: then there is no trial.
        told = (exc.diag.message_primary or type(exc).__name__).rstrip(".")
        return f"a trial failed: {told}"
    seconds *= CACHE_FACTORS[spec.key_type]
    return Rate(rows=copied, seconds=seconds, is_serial=True, source=f"a trial with {count_text(copied, 'row')}")
