"""The measurement of every existing generation: recall and latency at each ef_search, against one exact result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from everindex.index.catalog.index_parts import index_names, size_of
from everindex.index.catalog.key import is_key, is_predicate
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import is_hidden, same_distance
from everindex.index.deploy.visibility import competitors, hidden
from everindex.index.recall.explain import FORCED, PLANNED_ANEW, Settings, explain_here, set_local
from everindex.index.recall.measurement import IndexUnused, Inside, Truth, compare, one_transaction
from everindex.index.recall.probe import candidates_per_neighbour, probe_statement
from everindex.index.spec import MAX_EF_SEARCH, IndexSpec
from everindex.index.tuning.curve import Curve, Point, Shape, Source, shape_of
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: The settings with which a search prevents the planner from reading the whole table.
WITHOUT_SEQSCAN: Settings = (("enable_seqscan", "off"),)
#: A beam of this width visits nearly everything that the others visit.
WARMING_EF_SEARCH = 200

OnPoint = Callable[[str, Point], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that was not measured, and why."""

    what: str
    why: str

    @property
    def sentence(self) -> str:
        return f"{self.what} was not measured: {self.why}"


def measure_index(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    index: ObservedIndex,
    truth: Truth,
    *,
    rows: int,
    steps: tuple[int, ...],
    source: Source,
    chosen: int | None = None,
    deadline: float,
    on_point: OnPoint | None = None,
) -> Curve | LeftOut:
    """The curve of one existing index, with all others of its key hidden from the planner; `deadline` on the monotonic clock.

    `spec` declares exactly that index, `chosen` is the ef_search of its searches. Reads only; a superuser hides the others in
    transactions that are rolled back, other roles take no lock for it. LeftOut if the planner does not use the index.
    """
    others = competitors(observed, index)
    inside: Inside = one_transaction
    if observed.is_superuser and (others or not index.is_valid):
        inside = hidden(others, shown=() if index.is_valid else (index,))
    elif not index.is_valid:
        return LeftOut(
            what=f"index {index.name}", why="it is hidden from the planner, and only a superuser can show it"
        )
    points = measure_points(
        connection,
        spec,
        observed,
        truth,
        names=index_names(observed, index),
        steps=steps,
        inside=inside,
        upto=chosen,
        deadline=deadline,
        on_point=on_point,
    )
    if isinstance(points, IndexUnused):
        return LeftOut(
            what=f"index {index.name}", why=f"even when forced to, the planner does not use it ({points.plan})"
        )
    return Curve(
        shape=shape_of(spec),
        source=source,
        index=index.name,
        rows=rows,
        size_bytes=size_of(observed, index),
        build_seconds=None,
        points=points,
    )


def measure_points(
    connection: Connection,
    spec: IndexSpec,
    observed: Observed,
    truth: Truth,
    *,
    names: frozenset[str],
    steps: tuple[int, ...],
    inside: Inside = one_transaction,
    upto: int | None = None,
    deadline: float,
    on_point: OnPoint | None = None,
) -> tuple[Point, ...] | IndexUnused:
    """A point for each step, until `deadline`, or until nothing is missed, but at least up to `upto`. Reads only."""
    points: list[Point] = []
    is_warm = False
    for ef_search in (_warming(steps), *steps):
        candidates = candidates_at(spec, observed, k=truth.k, ef_search=ef_search)
        # The query's own row takes up one place, in the beam and among the candidates.
        statement = probe_statement(
            spec,
            observed,
            k=truth.k + truth.own_rows,
            candidates=None if candidates is None else candidates + truth.own_rows,
        )
        beam: Settings = (("hnsw.ef_search", str(min(ef_search + truth.own_rows, MAX_EF_SEARCH))),)
        measured = compare(connection, statement, (*beam, *FORCED, *PLANNED_ANEW), truth, names=names, inside=inside)
        if isinstance(measured, IndexUnused):
            return tuple(points) or measured
        if not is_warm:
            is_warm = True
            continue
        with translate_errors("asking for a plan"), inside(connection):
            set_local(connection, (*beam, *WITHOUT_SEQSCAN))
            plan = explain_here(connection, statement, {"vector": truth.queries[0][0]})
        point = Point(
            ef_search=ef_search,
            candidates=candidates,
            recall=measured.recall,
            low=measured.low,
            high=measured.high,
            queries=measured.queries,
            median_ms=measured.approximate_ms,
            p95_ms=measured.p95_ms,
            is_planned=bool(names & set(plan.index_names)),
        )
        points.append(point)
        if on_point is not None:
            on_point(shape_of(spec).words, point)
        misses_nothing = len(points) > 1 and min(points[-1].recall, points[-2].recall) == 1
        if time.monotonic() >= deadline or (misses_nothing and ef_search >= (upto or 0)):
            break
    return tuple(points)


def _warming(steps: tuple[int, ...]) -> int:
    """The ef_search with which all queries run once before they count: the first ones read index, rows and catalog into memory,
    and the smallest ef_search would bear that cost for all others."""
    return max((step for step in steps if step <= WARMING_EF_SEARCH), default=steps[0])


def candidates_at(spec: IndexSpec, observed: Observed, *, k: int, ef_search: int) -> int | None:
    """How many candidates are re-ranked at that ef_search: for codes all in the beam, for halfvec twice k; None if the index
    holds the true distances."""
    by_neighbour = candidates_per_neighbour(spec, observed)
    if by_neighbour == 1:
        return None
    return max(k, min(ef_search, k * by_neighbour) if spec.key_type == "halfvec" else ef_search)


def measurable(spec: IndexSpec, observed: Observed) -> list[tuple[IndexSpec, ObservedIndex]]:
    """Every existing generation with its own declaration, the declared one first. Pure."""
    found: list[tuple[IndexSpec, ObservedIndex]] = []
    for index in observed.indexes:
        if index.method != "hnsw" or not (index.is_valid or is_hidden(index)):
            continue
        for opclass in same_distance(spec):
            kind = Shape(opclass=opclass, m=index.m, ef_construction=index.ef_construction).applied_to(spec)
            if (
                index.opclass == opclass
                and is_key(kind, observed, column=index.column, expression=index.expression)
                and is_predicate(kind, observed, index.predicate)
            ):
                found.append((kind, index))
    return sorted(found, key=lambda pair: pair[1].name != spec.name)
