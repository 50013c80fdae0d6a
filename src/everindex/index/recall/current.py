"""The present recall of the serving index: its latest samples combined and compared with the floor.

Reads what was measured; measures nothing.
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
    """The samples of the graph that serves now; `queries` is 0 where none are kept."""

    queries: int
    floor: float
    """The declared one, or the one that it was tuned for."""

    recall: float = 0.0
    low: float = 0.0
    high: float = 1.0
    is_below: bool = False
    """True where recall is certainly below the floor: the upper end of its interval is."""

    source: str = STORED_ROWS
    """Which queries: those with the worst recall."""

    others: tuple[RecallNow, ...] = ()
    """The same for other queries."""

    @property
    def is_enough(self) -> bool:
        """False where so few queries were measured that they say nothing."""
        return self.queries >= LEAST_QUERIES

    @property
    def sentence(self) -> str:
        """Empty where nothing is known."""
        if self.queries == 0:
            return ""
        state = "below the floor" if self.is_below else "against a floor"
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
    # The worst decides: one that is certainly below, else of those that say something the one with the least recall.
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
