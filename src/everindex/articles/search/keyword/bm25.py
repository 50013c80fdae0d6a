"""BM25 over two fields: how well a text answers the words of a query, from how often it has each of them. Pure.

A word counts more the fewer texts have it, each further time less than the time before, and in a long text less than in a
short one. A word of the title counts as TITLE_WEIGHT words of the rest.

Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, sections 3.5 (BM25) and 3.6
(BM25F, here with one length for both fields). The constants were chosen in docs/measurements/words.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: How quickly further times of a word count less; 0 would count a word once.
SATURATION = 1.2
#: How much the length of a text counts, 0 to 1.
LENGTH_SHARE = 0.5
TITLE_WEIGHT = 2
#: A text of so many words is neither long nor short. Not the mean of the table: that is known only to a process that has its
#: words in memory, and two processes would order the same hits differently, also behind a pooler.
USUAL_LENGTH = 50.0

Floats = npt.NDArray[np.float64]


def idf(texts: float, having: float) -> float:
    """The weight of a word that `having` of `texts` texts have; above 0, and largest for a word that none has."""
    texts = max(texts, having)
    return float(np.log1p((texts - having + 0.5) / (having + 0.5)))


def norm(lengths: npt.NDArray[np.integer | np.floating]) -> Floats:
    """What each text's length does to `weight`, (n,) from (n,) lengths in words."""
    share = lengths / USUAL_LENGTH
    return np.asarray(SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * share), dtype=np.float64)


def weight(times: npt.NDArray[np.integer | np.floating], norms: Floats) -> Floats:
    """What a word adds to a text's score for each unit of its idf: 0 to MOST_WEIGHT, (n,) from how many `times` it has it,
    those in the title counted TITLE_WEIGHT times."""
    return np.asarray(times * (SATURATION + 1) / (times + norms), dtype=np.float64)


#: No word adds more to a score than this many times its idf.
MOST_WEIGHT = SATURATION + 1


def rounded(scores: Floats) -> Floats:
    """Scores that are equal where only the order of additions made them differ: equal ones are ordered by key."""
    return np.round(scores, 9)
