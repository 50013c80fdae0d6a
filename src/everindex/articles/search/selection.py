"""Which of the candidates that a search found are answered? Those that differ enough from each other: for variety, or
without near-duplicates. Each asks the search for more than it answers, and reads the vectors of what came back once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from everindex.articles.model import MAX_K, Answer, Hit
from everindex.articles.search.cursor import Cursor
from everindex.articles.search.diversity import Vectors, most_diverse
from everindex.articles.search.near_duplicates import without_near_duplicates
from everindex.articles.search.pages import after_nearest
from everindex.articles.search.request import SearchRequest

#: For variety so many times k candidates are looked at: of fewer there is little to choose, and further ones are less and
#: less about the query.
DIVERSITY_CANDIDATES = 4
#: Looking for articles that are no near-duplicates ends after so many candidates: their vectors have some 6 MB.
MOST_CANDIDATES = 1000

#: The vectors of articles, uri → (dim,) float32; those without one are left out.
ReadVectors = Callable[[Sequence[str]], Mapping[str, Vectors]]


def for_variety(
    ask: Callable[[int], Answer],
    read_vectors: ReadVectors,
    *,
    k: int,
    diversity: float,
) -> Answer:
    """k articles of what `ask` finds, in the order of maximal marginal relevance, the best first of all. Raises what both
    raise."""
    answer = ask(candidates_for_variety(k))
    vectors = read_vectors([hit.uri for hit in answer.hits])
    width = next((len(vector) for vector in vectors.values()), 1)
    nothing = np.zeros(width, dtype=np.float32)  # an article without a vector is like no other
    directions = np.array([vectors.get(hit.uri, nothing) for hit in answer.hits]).reshape(-1, width)
    taken = most_diverse(_likeness(answer.hits), directions, k=k, diversity=diversity)
    return replace(answer, hits=[answer.hits[number] for number in taken], k=k, diversity=diversity, more=None)


def candidates_for_variety(k: int) -> int:
    """How many articles k are chosen from."""
    return min(DIVERSITY_CANDIDATES * k, MAX_K)


def distinct(
    ask: Callable[[int, Cursor | None], Answer], read_vectors: ReadVectors, *, k: int, threshold: float, of: Vectors
) -> Answer:
    """The k nearest of what `ask` finds that are no near-duplicates of `of` ((dim,)), nor of a nearer one.

    Asks on until there are k, or the search has no more, or MOST_CANDIDATES were looked at; the last is told.
    """
    hits: list[Hit] = []
    vectors: dict[str, Vectors] = {}
    kept: list[Hit] = []
    before: Cursor | None = None
    batch = min(2 * k, MAX_K)
    while True:
        answer = ask(batch, before)
        vectors |= read_vectors([hit.uri for hit in answer.hits])
        # One whose vector went between the two statements cannot be compared any more.
        hits += [hit for hit in answer.hits if hit.uri in vectors]
        if hits:
            numbers = without_near_duplicates(np.array([vectors[hit.uri] for hit in hits]), threshold=threshold, of=of)
            kept = [hits[number] for number in numbers][:k]
        is_last = len(answer.hits) < batch
        if len(kept) == k or is_last or len(hits) >= MOST_CANDIDATES:
            break
        before = after_nearest(answer.hits, before=before, is_complete=answer.is_exact)
    notices = answer.notices
    if len(kept) < k and not is_last:
        notices = [
            *notices,
            f"near-duplicates: the nearest {len(hits):,} articles hold no more than {len(kept)} that differ",
        ]
    return replace(answer, hits=kept, k=k, notices=notices, more=None)


def similar_enough(answer: Answer, request: SearchRequest) -> Answer:
    """The answer without the articles less similar than the request wants, or whose similarity is not known.

    Cut here, and not by the statement: a scan of the index whose condition nothing can pass any more would walk on until it
    gives up (seen elsewhere: 36 times slower, caura-ai/caura#1650). It is no short answer of the index.
    """
    if request.min_similarity is None:
        return answer
    hits = [hit for hit in answer.hits if request.is_similar(hit)]
    # By distance what is cut off is the end, and there is no further page.
    return answer if len(hits) == len(answer.hits) else replace(answer, hits=hits, more=None)


def _likeness(hits: Sequence[Hit]) -> np.ndarray:
    """How well each hit answers: cosine similarity, or its score with the best one's as 1."""
    if all(hit.score is None for hit in hits):
        return np.array([hit.similarity if hit.similarity is not None else 0.0 for hit in hits])
    scores = np.array([hit.score or 0.0 for hit in hits])
    return scores / max(float(scores.max()), np.finfo(np.float64).tiny)
