"""Figures of rankings: nDCG, reciprocal rank and recall per query by ir-measures; their means with confidence intervals.

An interval is the percentile bootstrap over the queries (scipy); two systems are compared on the same queries by their
differences, with the same interval and a randomisation test of signs. Both speak of other queries of this kind, not of the
judgements.

Source: Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation",
CIKM 2007.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.articles.evaluation.judgements import JudgedQuery
from everindex.errors import UsageError

CONFIDENCE = 0.95
RESAMPLES = 9_999
#: Of the bootstrap and the test: the same file gives the same figures.
SEED = 20_261_127

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over the queries and its 95 % interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A system against the baseline, on the same queries: the mean of the differences, and its confidence interval."""

    system: str
    baseline: str
    measure: str
    difference: Estimate
    p: float
    """Of the two-sided test that signs are random; not corrected for the number of comparisons."""

    better: int
    worse: int
    """On how many queries."""

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.difference.low > 0 or self.difference.high < 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "system": self.system, "baseline": self.baseline, "measure": self.measure, "difference": self.difference.as_dict(),
            "p": round(self.p, 4), "better": self.better, "worse": self.worse,
        }  # fmt: skip


def measure_names(k: int) -> tuple[str, str, str]:
    """The measures of the first k; comparisons use the first one."""
    return f"nDCG@{k}", f"MRR@{k}", f"recall@{k}"


def measure(queries: Sequence[JudgedQuery], rankings: Mapping[str, Sequence[str]], *, k: int) -> dict[str, Values]:
    """Name of the measure → its value for each query, (len(queries),) from 0 to 1. `rankings`: id → keys, best first, each
    once; a query without one has found nothing. Raises UsageError where ir-measures is not installed."""
    library = _library()
    known = {f"nDCG@{k}": library.nDCG @ k, f"MRR@{k}": library.RR @ k, f"recall@{k}": library.R @ k}
    qrels = {query.id: dict(query.grades) for query in queries}
    # Distinct scores: trec_eval would order equal ones by key.
    run = {
        name: {key: float(len(keys) - place) for place, key in enumerate(keys)}
        for name, keys in rankings.items()
        if keys
    }
    place_of = {query.id: place for place, query in enumerate(queries)}
    name_of = {str(one): name for name, one in known.items()}
    values = {name: np.zeros(len(queries)) for name in known}
    for metric in library.iter_calc(list(known.values()), qrels, run):
        values[name_of[str(metric.measure)]][place_of[metric.query_id]] = metric.value
    return values


def estimate(values: Values) -> Estimate:
    """The mean of the values and its interval; for a single query, the interval is the value itself."""
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return Estimate(mean=mean, low=mean, high=mean)
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=500, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return Estimate(mean=mean, low=float(found.low), high=float(found.high))


def compare(system: str, values: Values, baseline: str, base: Values, *, measure_name: str) -> Comparison:
    """`values` and `base` are of the same queries, in the same order."""
    differences = values - base
    return Comparison(
        system=system, baseline=baseline, measure=measure_name, difference=estimate(differences), p=_p(differences),
        better=int((differences > 1e-9).sum()), worse=int((differences < -1e-9).sum()),
    )  # fmt: skip


def _p(differences: Values) -> float:
    """Of the paired randomisation test: each query's difference could have had the other sign."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    from scipy.stats import permutation_test

    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, batch=500, vectorized=True,
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(found.pvalue)


def _library() -> Any:
    try:
        import ir_measures
    except ImportError:
        raise UsageError(
            "an evaluation cannot be computed.",
            why="ir-measures is not installed here.",
            next_step="run  pip install 'everindex[evaluate]'.",
        ) from None
    return ir_measures
