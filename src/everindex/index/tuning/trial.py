"""Trials of other configurations: built one after the other on a sample, measured, and dropped."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import psycopg
from psycopg import sql

from everindex.errors import SpecIllegal
from everindex.index.build.estimate import Estimate, estimate_build
from everindex.index.build.footprint import index_bytes
from everindex.index.build.memory import settings_for
from everindex.index.build.preflight import see_machine
from everindex.index.build.rate import Rate
from everindex.index.catalog.index_parts import index_names
from everindex.index.catalog.key import DERIVED
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import declared_index, same_distance
from everindex.index.plan.ddl import create_statement
from everindex.index.recall.measurement import IndexUnused, Truth
from everindex.index.spec import OLD_OPCLASSES, IndexSpec, check_dimensions
from everindex.index.tuning.curve import Curve, Shape, shape_of
from everindex.index.tuning.measure import LeftOut, OnPoint, measure_points
from everindex.index.tuning.sample_table import SampleTable
from everindex.pg.capabilities import look
from everindex.pg.connections import Connection
from everindex.units import count_text

#: (m, ef_construction) of the graphs that are tried for each type of key, in addition to the declared ones.
GRAPHS = ((16, 64), (32, 128))
#: Minimum time for a build on the sample, however little is left.
LEAST_BUILD_SECONDS = 5.0


def shapes_to_try(spec: IndexSpec, observed: Observed) -> tuple[Shape, ...]:
    """Every configuration that the column and the server support, the smallest index first. Pure."""
    found: dict[Shape, int] = {}
    for opclass in same_distance(spec):
        for m, ef_construction in dict.fromkeys((*GRAPHS, (spec.m, spec.ef_construction))):
            shape = Shape(opclass=opclass, m=m, ef_construction=ef_construction)
            if _is_possible(shape, spec, observed):
                found[shape] = expected_bytes(shape, observed, rows=1_000_000)
    return tuple(sorted(found, key=lambda shape: (found[shape], shape.ef_construction)))


def expected_bytes(shape: Shape, observed: Observed, *, rows: int) -> int:
    """Bytes on disk of an index with that shape on `rows` values with the observed dimensions."""
    return index_bytes(rows=rows, dimensions=observed.dimensions or 1, m=shape.m, key_type=shape.key_type)


def _is_possible(shape: Shape, spec: IndexSpec, observed: Observed) -> bool:
    column_type = observed.column_type
    if spec.expression is None and column_type != shape.key_type and (column_type, shape.key_type) not in DERIVED:
        return False
    if observed.extension_version is not None and observed.extension_version < (0, 7):
        return shape.opclass in OLD_OPCLASSES
    try:
        check_dimensions(shape.applied_to(spec), observed.dimensions)
    except SpecIllegal:
        return False
    return True


def try_shape(
    connection: Connection,
    shape: Shape,
    sample: SampleTable,
    truth: Truth,
    *,
    spec: IndexSpec,
    rows: int,
    steps: tuple[int, ...],
    deadline: float,
    on_point: OnPoint | None = None,
) -> Curve | LeftOut:
    """Builds the shape on the sample, measures it and drops it; size and build time are those for all `rows`.

    `deadline` on the monotonic clock ends the build. LeftOut with the reason if it cannot be built in time.
    """
    tried = shape.applied_to(sample.spec)
    what = f"{shape.words}, on a sample,"
    left = max(LEAST_BUILD_SECONDS, deadline - time.monotonic())
    try:
        seconds = _build(connection, tried, sample, seconds=left)
    except psycopg.Error as exc:
        if connection.closed:
            raise
        if isinstance(exc, psycopg.errors.QueryCanceled):
            return LeftOut(what=what, why=f"it could not be built in {left:.0f} s")
        return LeftOut(what=what, why=exc.diag.message_primary or type(exc).__name__)
    try:
        observed = replace(observe(connection, tried), estimated_rows=sample.rows)
        index = declared_index(tried, observed)
        assert index is not None  # it has just been built in this session
        points = measure_points(
            connection,
            tried,
            observed,
            truth,
            names=index_names(observed, index),
            steps=steps,
            deadline=deadline,
            on_point=on_point,
        )
    finally:
        if not connection.closed:
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(tried.schema, tried.name)))
    if isinstance(points, IndexUnused):
        return LeftOut(what=what, why=f"even when forced to, the planner does not use it ({points.plan})")
    rate = Rate(
        rows=sample.rows, seconds=seconds, is_serial=True, source=f"a build on {count_text(sample.rows, 'row')}"
    )
    return Curve(
        shape=shape_of(tried),
        source="sample",
        index=None,
        rows=sample.rows,
        size_bytes=expected_bytes(shape, observed, rows=rows),
        build_seconds=estimate_for(connection, shape.applied_to(spec), observed, rows=rows, rate=rate).seconds,
        points=points,
    )


def estimate_for(
    connection: Connection, spec: IndexSpec, observed: Observed, *, rows: int, rate: Rate | None
) -> Estimate:
    """The cost of building `spec` on `rows` rows, with the settings that a deploy would choose. Reads only."""
    dimensions = observed.dimensions or 1
    settings = settings_for(
        connection,
        look(connection),
        table_rows=rows,
        dimensions=dimensions,
        m=spec.m,
        key_type=spec.key_type,
        memory_share=spec.build.memory_share,
    )
    is_here = see_machine(connection).disk_free_bytes is not None
    return estimate_build(
        spec,
        rows=rows,
        dimensions=dimensions,
        settings=settings,
        processors=os.cpu_count() if is_here else None,
        rate=rate,
    )


def _build(connection: Connection, tried: IndexSpec, sample: SampleTable, *, seconds: float) -> float:
    settings = settings_for(
        connection,
        look(connection),
        table_rows=sample.rows,
        dimensions=sample.observed.dimensions or 1,
        m=tried.m,
        key_type=tried.key_type,
        memory_share=tried.build.memory_share,
    ).as_settings()
    with connection.transaction():
        for name, value in {**settings, "statement_timeout": str(int(seconds * 1000))}.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
        started = time.perf_counter()
        connection.execute(create_statement(tried, sample.observed, concurrently=False))
        return time.perf_counter() - started
