"""The survey of one declared index: all its generations and other configurations, measured online within a budget.

The table is only read, with ACCESS SHARE: other configurations are built on a sample, in a temporary table of a separate
session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from everindex.errors import EverindexError
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.effective_spec import read_tuned
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import serving_spec
from everindex.index.catalog.tuned import ef_search_for
from everindex.index.plan.preconditions import check_column
from everindex.index.recall.measurement import Truth, find_truth
from everindex.index.recall.query_sample import Queries, choose_queries, stored_queries
from everindex.index.spec import IndexSpec
from everindex.index.tuning.curve import Curve, Point, Shape, steps
from everindex.index.tuning.measure import LeftOut, measurable, measure_index
from everindex.index.tuning.quantization import QuantizationBound, bounded, find_bound
from everindex.index.tuning.sample_table import SampleTable, sample_table
from everindex.index.tuning.survey_result import Budget, Survey
from everindex.index.tuning.trial import shapes_to_try, try_shape
from everindex.pg.connections import Connection, connect, lift_time_limits
from everindex.pg.pooler import require_session
from everindex.pg.vector_type import register_all_types
from everindex.units import count_text

#: Share of the time for finding the true neighbours, with one exact scan per query; measuring codes may take as much again.
TRUTH_SHARE = 0.4
CODES_SHARE = 0.1

Say = Callable[[str], None]


#: Whether a shape is worth trying, given these curves.
IsNeeded = Callable[[Shape, list[Curve]], bool]


def survey(
    conninfo: str,
    spec: IndexSpec,
    *,
    budget: Budget,
    say: Say = lambda text: None,
    is_needed: IsNeeded = lambda shape, curves: True,
) -> Survey:
    """Measures the existing generations and then, on a sample, the configurations that `is_needed` selects.

    Reads only, except for temporary tables; takes ACCESS SHARE, for about `budget.max_seconds` at most. Raises what connecting
    raises, NotMigrated, ColumnMismatch, SpecIllegal; what cannot be measured is listed with its reason.
    """
    deadline = time.monotonic() + budget.max_seconds
    with connect(conninfo, application_name="everindex measure") as connection:
        register_all_types(connection)
        lift_time_limits(connection)
        observed = observe(connection, spec)
        check_column(spec, observed)
        rows = count_rows(connection, spec)
        queries = choose_queries(connection, spec, observed, wanted=budget.queries)
        work = _Work(conninfo, connection, spec, observed, rows, queries, budget, deadline, say)
        if len(queries.vectors) < 2:
            return work.nothing("fewer than two rows have a vector")
        say(f"finding the true neighbours of {queries.words}, by exact scans of {count_text(rows, 'row')}")
        return work.done(is_needed)


@dataclass(slots=True)
class _Work:
    """One survey, from its queries to its result."""

    conninfo: str
    connection: Connection
    spec: IndexSpec
    observed: Observed
    rows: int
    queries: Queries
    budget: Budget
    deadline: float
    say: Say

    def nothing(self, why: str) -> Survey:
        return self._survey([], [LeftOut(what="recall", why=why)], queries="none", exact_ms=0.0, chosen=0)

    def done(self, is_needed: IsNeeded) -> Survey:
        truth = self._truth(self.connection, self.spec, self.observed, self.queries)
        found = serving_spec(self.spec, self.observed)
        tuned = None if found is None else read_tuned(self.connection, self.spec, found[1])
        chosen = ef_search_for(self.budget.k, tuned)
        curves: list[Curve] = []
        left: list[LeftOut] = []
        for kind, index in measurable(self.spec, self.observed):
            serves = found is not None and index.oid == found[1].oid
            if not (serves or self.budget.other_generations):
                continue
            self._sort(
                measure_index(
                    self.connection,
                    kind,
                    self.observed,
                    index,
                    truth,
                    rows=self.rows,
                    steps=steps(k=self.budget.k, also=chosen if serves else None),
                    source="serving" if serves else "generation",
                    chosen=chosen if serves else None,
                    deadline=self.deadline,
                    on_point=self._tell,
                ),
                curves,
                left,
            )
        if self.budget.sample_rows:
            self._try(truth, curves, left, is_needed)
        words = replace(self.queries, vectors=self.queries.vectors[: len(truth.queries)]).words
        return self._survey(curves, left, queries=words, exact_ms=truth.exact_ms, chosen=chosen)

    # --- on a sample -------------------------------------------------------------------------------------------------

    def _try(self, truth: Truth, curves: list[Curve], left: list[LeftOut], is_needed: IsNeeded) -> None:
        """Adds the curves of configurations that do not exist, measured on a sample."""
        others = "other configurations"
        shapes = shapes_to_try(self.spec, self.observed)
        if not any(is_needed(shape, curves) for shape in shapes):
            return
        try:
            with connect(self.conninfo, application_name="everindex measure") as connection:
                require_session(connection)
                register_all_types(connection)
                lift_time_limits(connection)
                self.say(f"copying a sample of {min(self.rows, self.budget.sample_rows)} rows")
                with sample_table(connection, self.spec, self.observed, rows=self.budget.sample_rows) as sample:
                    if isinstance(sample, str):
                        left.append(LeftOut(what=others, why=sample))
                    else:
                        self._try_on(connection, sample, truth, shapes, curves, left, is_needed)
        except EverindexError as exc:
            # A standby, or a role that may not create temporary tables.
            left.append(LeftOut(what=others, why=exc.why.rstrip(".")))

    def _try_on(
        self,
        connection: Connection,
        sample: SampleTable,
        truth: Truth,
        shapes: Iterable[Shape],
        curves: list[Curve],
        left: list[LeftOut],
        is_needed: IsNeeded,
    ) -> None:
        on_sample = truth if sample.is_whole else self._truth_of_sample(connection, sample)
        there = {curve.shape for curve in curves} if sample.is_whole else set()
        bound: QuantizationBound | None = None
        for shape in shapes:
            if shape in there or not is_needed(shape, curves):
                continue
            if time.monotonic() >= self.deadline:
                left.append(LeftOut(what=f"{shape.words}, on a sample,", why="the time limit was reached"))
                continue
            self.say(f"building {shape.words} on {count_text(sample.rows, 'row')}")
            curve = try_shape(
                connection,
                shape,
                sample,
                on_sample,
                spec=self.spec,
                rows=self.rows,
                steps=steps(k=self.budget.k),
                deadline=self.deadline,
                on_point=self._tell,
            )
            if isinstance(curve, Curve) and shape.key_type == "bit" and not sample.is_whole:
                bound = bound or self._bound(shape, truth)
                curve = curve if bound is None else bounded(curve, bound)
            self._sort(curve, curves, left)

    def _bound(self, shape: Shape, truth: Truth) -> QuantizationBound | None:
        self.say(f"computing the recall that bit codes can reach on all {count_text(self.rows, 'row')}")
        seconds = self.budget.max_seconds * CODES_SHARE
        return find_bound(self.connection, shape.applied_to(self.spec), self.observed, truth, max_seconds=seconds)

    def _truth_of_sample(self, connection: Connection, sample: SampleTable) -> Truth:
        queries = self.queries
        if queries.are_stored:
            queries = stored_queries(connection, sample.spec, sample.observed, wanted=self.budget.queries)
        return self._truth(connection, sample.spec, sample.observed, queries)

    # --- both --------------------------------------------------------------------------------------------------------

    def _truth(self, connection: Connection, spec: IndexSpec, observed: Observed, queries: Queries) -> Truth:
        return find_truth(
            connection,
            spec,
            observed,
            list(queries.vectors),
            k=self.budget.k,
            max_seconds=self.budget.max_seconds * TRUTH_SHARE,
            are_stored=queries.are_stored,
        )

    def _tell(self, what: str, point: Point) -> None:
        self.say(
            f"  {what}: ef_search {point.ef_search}, recall {point.recall:.3f} "
            f"({point.low:.3f} to {point.high:.3f}), {point.median_ms:.1f} ms"
        )

    def _sort(self, found: Curve | LeftOut, curves: list[Curve], left: list[LeftOut]) -> None:
        if isinstance(found, Curve):
            curves.append(found)
        else:
            left.append(found)

    def _survey(
        self, curves: list[Curve], left: list[LeftOut], *, queries: str, exact_ms: float, chosen: int
    ) -> Survey:
        return Survey(
            spec=self.spec,
            k=self.budget.k,
            rows=self.rows,
            queries=queries,
            exact_ms=exact_ms,
            chosen_ef_search=chosen,
            curves=tuple(curves),
            left_out=tuple(left),
            observed=self.observed,
        )
