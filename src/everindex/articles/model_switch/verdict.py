"""The verdict before the cut: the answers of both models compared on real queries, and go or no-go by stated thresholds.

Both answers are those of the application's own search, pinned to one generation each. What is judged: how much the answers
overlap, the recall of each index against exact scans, the time of a search, and where judged queries are given, nDCG. A verdict
speaks of these queries: a model can be better and overlap little, so the threshold of the overlap is low.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from everindex.articles.ingest.generation_vectors import Coverage
from everindex.articles.model import Answer
from everindex.articles.search.request.search_request import SearchRequest
from everindex.index.recall.proof import Proof

#: (generation, query) → the answer of that generation by meaning alone.
Search = Callable[[SearchRequest], Answer]

#: Results of each query that are compared.
K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What the new model has to reach."""

    least_recall: float = 0.95
    """Of its index, against an exact scan."""

    least_overlap: float = 0.1
    """Share of the old answers that the new ones have, in the mean: nearly none means another language or a broken model."""

    most_slower: float = 2.0
    """How many times as long the median search may take, beyond 2 ms."""

    most_ndcg_lost: float = 0.02
    """By how much nDCG@10 of judged queries may fall."""

    most_lacking: float = 0.001
    """Share of the articles that may lack a vector of the new model beyond those that lack one of the old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measure: its value for both models, what is asked of it, and whether that is reached."""

    measure: str
    old: str
    new: str
    threshold: str
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "measure": self.measure, "old": self.old, "new": self.new, "threshold": self.threshold, "holds": self.holds,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the new model may serve."""

    lines: tuple[Line, ...]
    queries: int
    source: str
    """Which queries, in words."""

    notes: tuple[str, ...] = field(default=())

    @property
    def is_go(self) -> bool:
        return all(line.holds for line in self.lines)

    @property
    def against(self) -> str:
        """The measures that do not hold, in words."""
        return "; ".join(f"{line.measure}: {line.new}, {line.threshold}" for line in self.lines if not line.holds)

    def as_dict(self) -> dict[str, Any]:
        return {
            "go": self.is_go, "queries": self.queries, "source": self.source,
            "lines": [line.as_dict() for line in self.lines], "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The answers of one generation."""

    keys: Mapping[str, tuple[str, ...]]
    """Query → the keys of its hits, best first."""

    median_ms: float
    errors: tuple[str, ...]


def ask(search: Search, queries: Sequence[str], *, generation: int) -> Compared:
    """The first K hits of each query in that generation. Each query is asked twice and timed the second time, since the first
    one loads the model and the index."""
    keys: dict[str, tuple[str, ...]] = {}
    times: list[float] = []
    errors: list[str] = []
    for query in queries:
        request = SearchRequest(mode="semantic", text=query, k=K, generation=generation)
        try:
            search(request)
            answer = search(request)
        except Exception as exc:
            errors.append(f"{query[:60]!r}: {getattr(exc, 'slug', type(exc).__name__)}")
            continue
        keys[query] = tuple(str(hit.key) for hit in answer.hits)
        times.append(answer.elapsed_ms)
    return Compared(keys=keys, median_ms=statistics.median(times) if times else 0.0, errors=tuple(errors))


def judge(
    old: Compared,
    new: Compared,
    *,
    proofs: tuple[Sequence[Proof], Sequence[Proof]],
    coverage: tuple[Coverage, Coverage],
    ndcg: tuple[float, float] | None,
    thresholds: Thresholds,
    source: str,
) -> Verdict:
    """The verdict from what was measured, of the old and of the new model each. Pure."""
    both = [query for query in old.keys if query in new.keys and old.keys[query]]
    overlaps = [len(set(old.keys[query]) & set(new.keys[query])) / len(old.keys[query]) for query in both]
    overlap = statistics.fmean(overlaps) if overlaps else 0.0
    recalls = [_recall(each) for each in proofs]
    index = [all(proof.holds for proof in each if proof.name != "recall") for each in proofs]
    more = coverage[1].lacking - coverage[0].lacking
    most_ms = max(thresholds.most_slower * old.median_ms, old.median_ms + 2.0)
    lines = [
        Line(
            measure="index", old=_state(index[0]), new=_state(index[1]), threshold="valid and used by the planner",
            holds=index[1],
        ),
        Line(
            measure=f"recall@{K}", old=_number(recalls[0]), new=_number(recalls[1]),
            threshold=f"at least {thresholds.least_recall:.2f}",
            holds=recalls[1] is None or recalls[1] >= thresholds.least_recall,
        ),
        Line(
            measure=f"overlap@{K}", old="1.00", new=f"{overlap:.2f}", threshold=f"at least {thresholds.least_overlap:.2f}",
            holds=not both or overlap >= thresholds.least_overlap,
        ),
        Line(
            measure="median search", old=f"{old.median_ms:.1f} ms", new=f"{new.median_ms:.1f} ms",
            threshold=f"at most {most_ms:.1f} ms", holds=new.median_ms <= most_ms,
        ),
        Line(
            measure="articles without a vector", old=str(coverage[0].lacking), new=str(coverage[1].lacking),
            threshold=f"at most {int(coverage[0].lacking + thresholds.most_lacking * coverage[1].rows)}",
            holds=more <= thresholds.most_lacking * coverage[1].rows,
        ),
        Line(
            measure="queries that failed", old=str(len(old.errors)), new=str(len(new.errors)), threshold="0",
            holds=not new.errors,
        ),
    ]  # fmt: skip
    if ndcg is not None:
        least = ndcg[0] - thresholds.most_ndcg_lost
        lines.insert(
            2,
            Line(
                measure=f"nDCG@{K}", old=f"{ndcg[0]:.3f}", new=f"{ndcg[1]:.3f}", threshold=f"at least {least:.3f}",
                holds=ndcg[1] >= least,
            ),
        )  # fmt: skip
    notes = () if both else ("no query could be compared: the table has no titles, or neither model could embed them",)
    return Verdict(lines=tuple(lines), queries=len(both), source=source, notes=(*notes, *new.errors[:3]))


def _recall(proofs: Sequence[Proof]) -> float | None:
    found = next((proof.recall for proof in proofs if proof.name == "recall"), None)
    return None if found is None else found.recall


def _state(holds: bool) -> str:
    return "serves" if holds else "does not serve"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
