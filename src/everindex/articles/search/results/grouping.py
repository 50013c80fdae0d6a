"""Near-duplicates of an answer, grouped under the best of them: one story takes one place.

Works on the answer of any search: it asks for more candidates than are wanted, reads their vectors once, and puts each under
the first hit that it nearly repeats. Guarantees k groups where the candidates hold as many; an answer that is shorter says
how many were compared. A near-duplicate further down than the candidates is not seen: it is a hit of a later page.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.request.cursor import ENDS_HERE, Grouped
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.search.results.selection import ReadVectors, Vectors, unit
from everindex.articles.shape.hit import Hit

#: Of each text, this many characters are compared by their words.
COMPARED_CHARACTERS = 2_000
#: Texts with at least this share of their words in common are the same text, but for a few words.
SAME_TEXT = 0.9
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a row."""

    all: frozenset[str]
    numbers: frozenset[str]
    """Those with a digit."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of some hits, in the order of their first ones."""

    leaders: list[int]
    """The position of the first of each."""

    others: dict[int, list[int]]
    """Position of a first one → the positions of those that nearly repeat it."""


def grouped(search: Callable[[SearchRequest], Answer], read_vectors: ReadVectors, request: SearchRequest) -> Answer:
    """The answer of `search` with k groups: each hit carries its near-duplicates. Raises what `search` and `read_vectors`
    raise."""
    started = time.perf_counter()
    inner = replace(request, group_duplicates=False, k=_candidates(request.k))
    answer = search(inner)
    facets, vectors = answer.facets, dict(read_vectors([str(hit.key) for hit in answer.hits]))
    groups = groups_of(answer.hits, vectors, threshold=request.near_duplicate_distance)
    while len(groups.leaders) < request.k and len(answer.hits) == inner.k < MAX_K:
        inner = replace(inner, k=min(3 * inner.k, MAX_K), facets=())
        answer = search(inner)
        vectors |= read_vectors([key for hit in answer.hits if (key := str(hit.key)) not in vectors])
        groups = groups_of(answer.hits, vectors, threshold=request.near_duplicate_distance)
    found = _cut(answer, groups, k=request.k, is_last=len(answer.hits) < inner.k)
    return replace(found, facets=facets, elapsed_ms=(time.perf_counter() - started) * 1000)


def _candidates(k: int) -> int:
    """How many hits to ask for at first: of the sample's nearest, a third are near-duplicates at most."""
    return min(k + max(k // 2, 5), MAX_K)


def _cut(answer: Answer, groups: Groups, *, k: int, is_last: bool) -> Answer:
    """The first k groups, with the cursor to those after them."""
    leaders = groups.leaders[:k]
    hits = [
        replace(answer.hits[at], duplicates=tuple(answer.hits[other] for other in groups.others[at]))
        if groups.others[at]
        else answer.hits[at]
        for at in leaders
    ]
    end = groups.leaders[k] if len(groups.leaders) > k else len(answer.hits)
    later = [answer.hits[other] for at in leaders for other in groups.others[at] if other > end]
    cut = answer.cursor_after
    has_more = cut is not None and (end < len(answer.hits) or answer.more is not None)
    shown = Grouped(later=later, groups=len(leaders))
    more = None if cut is None or not has_more else lambda: cut(end, shown)
    notices = answer.notices
    if end < len(answer.hits) and ENDS_HERE in notices and more is not None and more() is not None:
        notices = [notice for notice in notices if notice != ENDS_HERE]  # of the candidates, not of this page
    if len(leaders) < k and not is_last:
        notices = [
            *notices,
            f"near-duplicates: the first {len(answer.hits):,} articles are only {len(leaders)} different ones",
        ]
    return replace(answer, hits=hits, k=k, notices=notices, more=more, cursor_after=None)


def groups_of(hits: Sequence[Hit], vectors: dict[str, Vectors], *, threshold: float) -> Groups:
    """The groups of `hits`, best first: each joins the first one before it, itself the first of its group, that it nearly
    repeats. A chain cannot grow: what only repeats another near-duplicate begins a group."""
    width = next((len(vector) for vector in vectors.values()), 1)
    nothing = np.zeros(width, dtype=np.float32)  # a row without a vector is near to no other
    directions = unit(np.array([vectors.get(str(hit.key), nothing) for hit in hits]).reshape(-1, width))
    distances = 1 - directions @ directions.T
    near = (distances < threshold).tolist()

    @cache
    def words(at: int) -> Words:  # of few rows: most are near to no other
        return words_of_text(hits[at].texts)

    leaders: list[int] = []
    others: dict[int, list[int]] = {}
    for at, is_near in enumerate(near):
        for leader in leaders:
            if is_near[leader] and tell_the_same(words(leader), words(at)):
                others[leader].append(at)
                break
        else:
            leaders.append(at)
            others[at] = []
    return Groups(leaders, others)


def is_near_duplicate(distance: float, one: Words, other: Words, *, threshold: float) -> bool:
    """Whether two rows tell one story: `distance` is the cosine distance of their vectors, `one` and `other` their words."""
    return distance < threshold and tell_the_same(one, other)


def tell_the_same(one: Words, other: Words) -> bool:
    """Whether two rows whose vectors are near tell one story.

    Vectors hardly differ where only a number does: "to SQLite 3.39.4" is no repetition of "to SQLite 3.38.4". Of the sample's
    pairs below 0.05 the numbers leave out nine of ten that are not one story, and none to speak of that are
    (docs/measurements/answers.md). Texts that share SAME_TEXT of their words are one whatever their numbers.
    """
    return one.numbers == other.numbers or overlap(one.all, other.all) >= SAME_TEXT


def words_of_text(texts: Sequence[str | None]) -> Words:
    """The words of a row's texts, in lower case."""
    text = " ".join(text[:COMPARED_CHARACTERS] for text in texts if text)
    found = frozenset(_WORD.findall(text.lower()))
    return Words(found, frozenset(word for word in found if _DIGIT.search(word)))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of the words of both that both have (Jaccard), 0 to 1; 1 where neither has any."""
    common = len(one & other)
    return common / ((len(one) + len(other) - common) or 1) if one or other else 1.0
