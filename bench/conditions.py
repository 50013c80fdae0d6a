"""The filters that searches are measured under: values of known shares, independent of the vectors or clustered."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from article_corpus import Corpus

#: Of topic, which made corpora draw without regard to the vector.
INDEPENDENT = (0.5, 0.1, 0.01, 0.001)
#: Of category, which is a cluster of the vector space.
CLUSTERED = (0.1, 0.03, 0.003)
#: A value stands for a share when it is at most so many times off.
NEAR = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One filter, or none, and the rows that pass it."""

    name: str
    only: dict[str, str]
    share: float
    passing: npt.NDArray[np.bool_]


def unfiltered(corpus: Corpus) -> Condition:
    return Condition(name="unfiltered", only={}, share=1.0, passing=np.ones(len(corpus.rows), dtype=np.bool_))


def filtered(corpus: Corpus, *, clustered: tuple[float, ...] = CLUSTERED) -> list[Condition]:
    """Those that this corpus has values for; a share that no value comes near is left out."""
    found = [
        _near(corpus, column, share)
        for column, shares in (("topic", INDEPENDENT), ("category", clustered))
        for share in shares
    ]
    return [condition for condition in found if condition is not None]


def no_match(corpus: Corpus) -> Condition:
    return Condition(
        name="no match", only={"topic": "of no article"}, share=0.0, passing=np.zeros(len(corpus.rows), dtype=np.bool_)
    )


def _near(corpus: Corpus, column: str, share: float) -> Condition | None:
    values = corpus.values(column)
    shares = {
        value: count / len(values) for value, count in Counter(values.tolist()).items() if value not in ("", "None")
    }
    if not shares:
        return None
    value = min(shares, key=lambda each: abs(math.log(shares[each] / share)))
    if not share / NEAR <= shares[value] <= share * NEAR:
        return None
    return Condition(
        name=f"{column} {100 * share:g} %", only={column: value}, share=round(shares[value], 5), passing=values == value
    )
