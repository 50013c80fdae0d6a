"""The judgement of recall samples: whether the latest queries are certainly below the floor. Pure.

Churn alone is no reason to rebuild: five cycles of deleting 60 % of the rows and VACUUM left recall where a fresh build has it.
Only measurements count, with their uncertainty: the upper end of the Wilson interval must be below the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from everindex.index.recall.history import RecallSample
from everindex.index.recall.measurement import wilson

#: Number of latest queries that are judged together; fewer than the minimum are no evidence.
JUDGED_QUERIES = 50
LEAST_QUERIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why the serving index should be rebuilt."""

    kind: Literal["recall", "size"]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is known about a graph that was built on evidence: the recall that a build can reach here, and no rebuild exceeds."""

    kind: Literal["recall", "size"]
    graph: str
    bytes_per_row: float


def by_source(samples: Sequence[RecallSample]) -> dict[str, list[RecallSample]]:
    """Samples grouped by the source of their queries, in order."""
    found: dict[str, list[RecallSample]] = {}
    for sample in samples:
        found.setdefault(sample.source, []).append(sample)
    return found


def judge_recall(
    samples: Sequence[RecallSample], *, floor: float, graph: str, baseline: Baseline | None
) -> Evidence | None:
    """Evidence when the latest queries of a source are certainly below `floor`; `samples` of one graph, oldest first."""
    for of_one in by_source(samples).values():
        evidence = _judge_one(of_one, floor=floor, graph=graph, baseline=baseline)
        if evidence is not None:
            return evidence
    return None


def _judge_one(
    samples: Sequence[RecallSample], *, floor: float, graph: str, baseline: Baseline | None
) -> Evidence | None:
    """The same for samples of one source.

    A graph that was itself built on such evidence shows what a build can reach: it is judged by its own first samples.
    """
    found, wanted, queries = latest_together(samples)
    if queries < LEAST_QUERIES:
        return None
    _, high = wilson(found, wanted)
    if high >= floor:
        return None
    if baseline is not None and baseline.kind == "recall" and baseline.graph == graph:
        first_found, first_wanted, _ = _together(samples)
        if high >= wilson(first_found, first_wanted)[0]:
            return None
    return Evidence(
        kind="recall",
        sentence=f"recall@{samples[-1].k} of the serving index is {found / wanted:.3f} (at most {high:.3f}, "
        f"{queries} queries: {samples[-1].source}), and the floor is {floor:.2f}",
    )


def latest_together(samples: Sequence[RecallSample]) -> tuple[int, int, int]:
    """(found, wanted, queries) of the latest samples, given oldest first, until JUDGED_QUERIES are reached."""
    return _together(list(reversed(samples)))


def _together(samples: Sequence[RecallSample]) -> tuple[int, int, int]:
    """(found, wanted, queries) of the first samples, until JUDGED_QUERIES are reached."""
    found = wanted = queries = 0
    for sample in samples:
        if queries >= JUDGED_QUERIES:
            break
        found += sample.found
        wanted += sample.wanted
        queries += sample.queries
    return found, wanted, queries
