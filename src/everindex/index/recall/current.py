"""The current recall of the serving index: its latest samples combined and compared with the floor.

Reads past measurements; measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from everindex.index.catalog.effective_spec import read_tuned
from everindex.index.catalog.observed import Observed
from everindex.index.catalog.roles import serving_spec
from everindex.index.recall.history import RecallSample, graph_of, samples_of
from everindex.index.recall.judgement import LEAST_QUERIES, by_source, judge_recall, latest_together
from everindex.index.recall.measurement import wilson
from everindex.index.recall.query_sample import STORED_ROWS
from everindex.index.spec import DEFAULT_K, IndexSpec
from everindex.pg.connections import Connection
from everindex.units import count_text


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallNow:
    """The samples of the graph that serves now; `queries` is 0 if there are none."""

    queries: int
    floor: float
    """The declared floor, or the one that it was tuned for."""

    recall: float = 0.0
    low: float = 0.0
    high: float = 1.0
    is_below: bool = False
    """True when recall is certainly below the floor, that is, when the upper end of its interval is."""

    source: str = STORED_ROWS
    """The source of the queries with the worst recall."""

    others: tuple[RecallNow, ...] = ()
    """The same for the other sources."""

    @property
    def is_enough(self) -> bool:
        """False when too few queries were measured to judge."""
        return self.queries >= LEAST_QUERIES

    @property
    def sentence(self) -> str:
        """Empty when nothing is known."""
        if self.queries == 0:
            return ""
        state = "below the floor" if self.is_below else "compared with a floor"
        return (
            f"recall@{DEFAULT_K} of the index that serves is {self.recall:.3f} ({self.low:.3f} to {self.high:.3f}) in the latest "
            f"{count_text(self.queries, 'query', 'queries')} that the keeper measured ({self.source}), {state} of {self.floor:g}"
            + "".join(f"; {other.recall:.3f} in {other.queries} of {other.source}" for other in self.others)
        )


def recall_now(connection: Connection, spec: IndexSpec, observed: Observed) -> RecallNow:
    """The latest samples of the index that serves `spec`, and its floor. Reads only."""
    found = serving_spec(spec, observed)
    if found is None:
        return RecallNow(queries=0, floor=spec.recall_floor)
    index = found[1]
    tuned = read_tuned(connection, spec, index)
    floor = spec.recall_floor if tuned is None else tuned.recall_floor
    graph = graph_of(connection, index)
    found_now = [
        _recall_of(samples, source=source, floor=floor, graph=graph)
        for source, samples in by_source(samples_of(connection, spec, graph)).items()
    ]
    if not found_now:
        return RecallNow(queries=0, floor=floor)
    # The worst source decides: one that is certainly below, otherwise the lowest recall among those with enough queries.
    worst = min(found_now, key=lambda now: (not now.is_below, not now.is_enough, now.recall))
    return replace(worst, others=tuple(now for now in found_now if now is not worst))


def _recall_of(samples: list[RecallSample], *, source: str, floor: float, graph: str) -> RecallNow:
    share, wanted, queries = latest_together(samples)
    low, high = wilson(share, wanted)
    return RecallNow(
        queries=queries,
        floor=floor,
        recall=share / wanted if wanted else 1.0,
        low=low,
        high=high,
        is_below=judge_recall(samples, floor=floor, graph=graph, baseline=None) is not None,
        source=source,
    )
