"""The result of an evaluation: each system's measures with their intervals, its speed, and its difference from the baseline."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from everindex.articles.evaluation.judgements import Judgements
from everindex.articles.evaluation.measures import (
    Comparison,
    Estimate,
    Values,
    compare,
    estimate,
    measure,
    measure_names,
)
from everindex.articles.evaluation.systems import Evaluated, Run, System, known_keys
from everindex.articles.searchable import Searchable
from everindex.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One system's figures."""

    system: System
    estimates: dict[str, Estimate]
    """Name of the measure → mean and interval, in the order of `measure_names`."""

    values: dict[str, Values]
    """The same for each query."""

    median_ms: float
    notices: dict[str, int]
    rankings: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of one evaluation."""

    judgements: Judgements
    k: int
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    """Of each system with the baseline, by the first measure."""

    baseline: str
    unknown: tuple[str, ...]
    """Judged keys that the table does not have: they still count as relevant, and no search can find them."""

    unfindable: int
    """Queries all of whose relevant keys are unknown."""

    @property
    def first_measure(self) -> str:
        return measure_names(self.k)[0]

    def as_dict(self) -> dict[str, Any]:
        return {
            "queries": len(self.judgements.queries),
            "judgements": self.judgements.count,
            "k": self.k,
            "unknown_keys": list(self.unknown),
            "queries_without_known_key": self.unfindable,
            "unjudged_queries": list(self.judgements.unjudged),
            "baseline": self.baseline,
            "systems": [
                {
                    "name": one.system.name,
                    "mode": one.system.mode,
                    "model": one.system.model,
                    "reranker": one.system.reranker,
                    "candidates": one.system.candidates or None,
                    "measures": {name: found.as_dict() for name, found in one.estimates.items()},
                    "median_ms": round(one.median_ms, 2),
                    "notices": one.notices,
                }
                for one in self.measured
            ],
            "comparisons": [one.as_dict() for one in self.comparisons],
            "per_query": [
                {
                    "id": query.id,
                    "query": query.text,
                    "relevant": len(query.relevant),
                    self.first_measure: {
                        one.system.name: round(float(one.values[self.first_measure][place]), 4) for one in self.measured
                    },
                }
                for place, query in enumerate(self.judgements.queries)
            ],
        }


def evaluate(
    searched: Searchable,
    judgements: Judgements,
    systems: Sequence[System],
    *,
    k: int = 10,
    baseline: str | None = None,
    on_texts: Callable[[int], None] | None = None,
    on_system: Callable[[System], None] | None = None,
) -> Evaluation:
    """Runs every query through every system and measures the first k. `baseline` is the name of the system that the others are
    compared with; None: the first. Reads only. Raises UsageError for an unknown name, and what searches and models raise.
    """
    names = [system.name for system in systems]
    chosen = baseline or names[0]
    if chosen not in names:
        raise UsageError(
            f"there is no system {chosen[:80]!r} to compare with.",
            why=f"evaluated are: {'; '.join(names)}.",
            next_step="name one of them as the baseline.",
        )
    measure(judgements.queries, {}, k=k)  # whether the library is there, before the searches
    table, _ = searched.engine.known()
    with searched.reading.connection() as connection:
        known = known_keys(connection, table, sorted(judgements.keys))
    evaluated = Evaluated(searched, k=k, on_texts=on_texts)
    measured: list[Measured] = []
    for system in systems:
        if on_system is not None:
            on_system(system)
        measured.append(_measured(judgements, evaluated.run(system, judgements.queries), k=k))
    first = measure_names(k)[0]
    base = next(one for one in measured if one.system.name == chosen)
    return Evaluation(
        judgements=judgements,
        k=k,
        measured=tuple(measured),
        comparisons=tuple(
            compare(one.system.name, one.values[first], chosen, base.values[first], measure_name=first)
            for one in measured
            if one is not base
        ),
        baseline=chosen,
        unknown=tuple(sorted(judgements.keys - known)),
        unfindable=sum(not (query.relevant & known) for query in judgements.queries),
    )


def _measured(judgements: Judgements, run: Run, *, k: int) -> Measured:
    values = measure(judgements.queries, run.rankings, k=k)
    return Measured(
        system=run.system,
        estimates={name: estimate(found) for name, found in values.items()},
        values=values,
        median_ms=statistics.median(run.milliseconds) if run.milliseconds else 0.0,
        notices=run.notices,
        rankings=run.rankings,
    )
