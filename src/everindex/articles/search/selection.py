"""The selection among the candidates that a search found: for variety, without near-duplicates, by a least similarity.

The first two ask the search for more than is answered, and read the vectors of what came back once. Variety is maximal
marginal relevance: each time the article is taken for which (1 − diversity) × likeness to the query − diversity × likeness to
the most alike of those already taken is largest. The first is always the nearest.

Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries",
SIGIR 1998. Their λ is 1 − diversity.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from everindex.articles.model import MAX_K, Answer, Hit
from everindex.articles.search.cursor import Cursor, after_nearest
from everindex.articles.search.request import SearchRequest
from everindex.articles.table import ArticleTable
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: For variety so many times k candidates are looked at: of fewer there is little to choose, and further ones are less and
#: less about the query.
DIVERSITY_CANDIDATES = 4
#: Looking for articles that are no near-duplicates ends after so many candidates: their vectors have some 6 MB.
MOST_CANDIDATES = 1000

Vectors = npt.NDArray[np.floating[Any]]
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


def most_diverse(likeness: Vectors, vectors: Vectors, *, k: int, diversity: float) -> list[int]:
    """The numbers of k candidates in the order in which they are taken; all of them where there are fewer.

    `likeness`: (n,), to the query, 1 at most, largest first; `vectors`: (n, dim), of any length; one of zeros is like no
    other. Of candidates equally good the earlier is taken: the same input has one answer. Time grows with k × n × dim.
    """
    directions = unit(vectors)
    relevance = np.asarray(likeness, dtype=np.float64)
    nearest_taken = np.full(len(directions), -np.inf)
    is_free = np.ones(len(directions), dtype=bool)
    taken: list[int] = []
    while len(taken) < min(k, len(directions)):
        # Nothing is taken yet: nothing to be unlike, and the nearest is first whatever the weights are.
        worth = (1 - diversity) * relevance - diversity * nearest_taken if taken else relevance
        chosen = int(np.argmax(np.where(is_free, worth, -np.inf)))
        taken.append(chosen)
        is_free[chosen] = False
        np.maximum(nearest_taken, directions @ directions[chosen], out=nearest_taken)
    return taken


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors, (n, dim), brought to length 1 (but zeros); in float64, so that equal ones have a product of 1 within 1e-15."""
    wide = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    directions: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return directions


def without_near_duplicates(vectors: Vectors, *, threshold: float, of: Vectors | None = None) -> list[int]:
    """The numbers of the candidates that are kept, in their order.

    Each of `vectors` ((n, dim), best first) is kept unless it is closer than `threshold` to one kept before it, or to `of`
    ((dim,): the article that they are compared with). A row of near-duplicates can drift: the third may be kept though it
    is close to the second, which was not.
    """
    directions = unit(vectors)
    kept: list[int] = []
    # Room for all of them at once: a growing array would be copied for each.
    against = np.empty((len(directions) + 1, directions.shape[-1]))
    count = 0
    if of is not None:
        against[0] = unit(of)[0]
        count = 1
    for number, direction in enumerate(directions):
        if count == 0 or 1 - float(np.max(against[:count] @ direction)) >= threshold:
            against[count] = direction
            count += 1
            kept.append(number)
    return kept


def read_vectors(
    connection: Connection, table: ArticleTable, uris: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """uri → (dim,) float32; an article without a vector is left out. Reads only; 6 kB a vector at 1536 dimensions."""
    if not uris:
        return {}
    # One parameter, so that one statement serves any number of uris.
    statement = sql.SQL(
        "SELECT uri::pg_catalog.text, embedding FROM {} WHERE embedding IS NOT NULL AND uri IN "
        "(SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb))"
    ).format(table.identifier)
    with translate_errors("reading the vectors of candidates"):
        rows = roundtrip.run(connection, (), statement.as_string(None), [json.dumps(list(uris))])
    return {uri: vector.to_numpy() for uri, vector in rows}
