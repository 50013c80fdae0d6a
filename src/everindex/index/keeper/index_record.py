"""The keeper's record of one index: the samples of its graph, the time of the next one, and the keeper's own builds.

It is read back from everindex_meta after a restart; without that schema it lasts only as long as the process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from everindex.errors import EverindexError
from everindex.index.build.vector_index import count_rows
from everindex.index.catalog.generations import read_note
from everindex.index.catalog.index_parts import size_of
from everindex.index.catalog.observe import observe
from everindex.index.catalog.observed import Observed, ObservedIndex
from everindex.index.catalog.roles import declared_index
from everindex.index.journal import entries, record
from everindex.index.keeper.evidence import is_worth_measuring, measure, queries_within, see_size
from everindex.index.recall.history import KEPT_SAMPLES, RecallSample, graph_of, remember, samples_of
from everindex.index.recall.judgement import Baseline, Evidence, by_source, judge_recall
from everindex.index.recall.query_sample import STORED_ROWS, Queries, SearchQueries
from everindex.index.spec import IndexSpec
from everindex.pg.connections import Connection

log = logging.getLogger(__name__)

REBUILT = "keeper: rebuilt"
#: If measuring is impossible (the table is too large for the budget), it is tried again after this time.
ASK_AGAIN_SECONDS = 3600.0


class IndexRecord:
    """The keeper's memory of one index."""

    def __init__(self) -> None:
        self._graph: str | None = None
        self._samples: list[RecallSample] = []
        self._baseline: Baseline | None = None
        self._due_at = 0.0

    def look_at(self, connection: Connection, spec: IndexSpec, found: ObservedIndex) -> None:
        """Starts over if the graph has changed since the last observation. Reads only."""
        graph = graph_of(connection, found)
        if graph == self._graph:
            return
        self._graph = graph
        self._samples = samples_of(connection, spec, graph)
        shortfall = read_note(found.comment).shortfall
        if shortfall is not None and shortfall.generation == graph:
            # It took over below its floor: a build cannot reach more, so it is judged by its own first measurements.
            self._baseline = Baseline(kind="recall", graph=graph, bytes_per_row=0.0)
            return
        for entry in entries(connection, spec, limit=200):
            if entry.event == REBUILT and entry.details.get("generation") == graph:
                self._baseline = Baseline(
                    kind=entry.details["kind"],
                    graph=graph,
                    bytes_per_row=float(entry.details["bytes_per_row"]),
                )
                break

    def size_evidence(
        self, connection: Connection, spec: IndexSpec, observed: Observed, found: ObservedIndex
    ) -> Evidence | None:
        """Evidence of size per row. Reads only."""
        assert self._graph is not None
        return see_size(connection, spec, observed, found, graph=self._graph, baseline=self._baseline)

    def measure_if_due(
        self,
        connection: Connection,
        spec: IndexSpec,
        observed: Observed,
        *,
        seconds: float,
        share: float,
        search_queries: Callable[[], SearchQueries] = SearchQueries,
    ) -> None:
        """Measures a few queries for at most about `seconds`, and not more often than `share` of the time allows; stored rows
        and each source of `search_queries` take turns."""
        assert self._graph is not None
        if time.monotonic() < self._due_at or not is_worth_measuring(observed):
            return
        queries = queries_within(seconds, rows=observed.estimated_rows, past=self._samples)
        if queries == 0:
            log.debug(
                "recall of %s is not measured: a single exact scan takes longer than %g s",
                spec.name,
                seconds,
                extra={"event": "recall-not-measured"},
            )
            self._due_at = time.monotonic() + ASK_AGAIN_SECONDS
            return
        started = time.monotonic()
        seed = f"{self._graph} {time.time_ns()}"
        sample = measure(
            connection,
            spec,
            observed,
            queries=queries,
            seconds=seconds,
            seed=seed,
            of_searches=self._next_source(search_queries()),
        )
        spent = time.monotonic() - started
        self._due_at = time.monotonic() + spent / share
        if sample is None:
            self._due_at = max(self._due_at, time.monotonic() + ASK_AGAIN_SECONDS)
            return
        self._samples.append(sample)
        if len(self._samples) > KEPT_SAMPLES:
            del self._samples[
                len(self._samples) // 2
            ]  # keeps the first ones as the baseline and the last ones to judge
        remember(connection, spec, self._graph, sample)

    def _next_source(self, search_queries: SearchQueries) -> Queries | None:
        """The source with the fewest measured queries; None for stored rows."""
        measured = {source: sum(one.queries for one in samples) for source, samples in by_source(self._samples).items()}
        sources = [None, *(queries for queries in search_queries.queries if queries.vectors)]
        return min(sources, key=lambda one: measured.get(STORED_ROWS if one is None else one.source, 0))

    def recall_evidence(self, spec: IndexSpec) -> Evidence | None:
        """Evidence from the existing samples."""
        assert self._graph is not None
        return judge_recall(self._samples, floor=spec.recall_floor, graph=self._graph, baseline=self._baseline)

    def note_rebuilt(self, connection: Connection, spec: IndexSpec, evidence: Evidence) -> None:
        """Remembers that the current graph was built on evidence, and its size."""
        try:
            observed = observe(connection, spec)
            found = declared_index(spec, observed)
            if found is None:
                return
            graph = graph_of(connection, found)
            rows = count_rows(connection, spec)
        except EverindexError as exc:
            log.debug("the rebuilt index was not observed: %s", exc.slug, extra={"event": "rebuilt-not-observed"})
            return
        bytes_per_row = size_of(observed, found) / max(1, rows)
        self._graph, self._samples, self._due_at = graph, [], 0.0
        self._baseline = Baseline(kind=evidence.kind, graph=graph, bytes_per_row=bytes_per_row)
        record(
            connection,
            spec,
            REBUILT,
            kind=evidence.kind,
            sentence=evidence.sentence,
            generation=graph,
            bytes_per_row=bytes_per_row,
        )
