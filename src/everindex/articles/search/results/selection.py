"""The selection among the candidates of a search: for variety, without near-duplicates, by a minimum similarity.

The first two request more candidates than they return, and read the candidates' vectors once. Variety is maximal
marginal relevance: each step takes the article with the largest (1 − diversity) × similarity to the query − diversity ×
similarity to the most similar article already taken. The first is always the nearest.

Source: Carbonell, Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing "
"Summaries",
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

from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.request.cursor import Cursor, after_nearest
from everindex.articles.search.request.search_request import SearchRequest
from everindex.articles.shape.hit import Hit
from everindex.articles.table import CollectionTable
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Variety chooses from this many times k candidates: fewer leave little choice, and further ones are less and less
#: relevant.
DIVERSITY_CANDIDATES = 4
#: The search for articles that are not near-duplicates ends after this many candidates, whose vectors take about 6 MB.
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
    """k of the articles that `ask` finds, in the order of maximal marginal relevance; the best hit stays first. Raises
    what `ask` and `read_vectors` raise."""
    answer = ask(candidates_for_variety(k))
    vectors = read_vectors([str(hit.key) for hit in answer.hits])
    width = next((len(vector) for vector in vectors.values()), 1)
    nothing = np.zeros(width, dtype=np.float32)  # an article without a vector is similar to no other
    directions = np.array([vectors.get(str(hit.key), nothing) for hit in answer.hits]).reshape(-1, width)
    taken = most_diverse(_likeness(answer.hits), directions, k=k, diversity=diversity)
    return replace(answer, hits=[answer.hits[number] for number in taken], k=k, diversity=diversity, more=None)


def candidates_for_variety(k: int) -> int:
    """The number of candidates from which k articles are chosen."""
    return min(DIVERSITY_CANDIDATES * k, MAX_K)


def distinct(
    ask: Callable[[int, Cursor | None], Answer], read_vectors: ReadVectors, *, k: int, threshold: float, of: Vectors
) -> Answer:
    """The k nearest of the articles that `ask` finds, without near-duplicates of `of` ((dim,)) and of nearer articles.

    Searches on until there are k, the search has no more, or MOST_CANDIDATES were compared; a notice reports the last
    case.
    """
    hits: list[Hit] = []
    vectors: dict[str, Vectors] = {}
    kept: list[Hit] = []
    before: Cursor | None = None
    batch = min(2 * k, MAX_K)
    while True:
        answer = ask(batch, before)
        vectors |= read_vectors([str(hit.key) for hit in answer.hits])
        # A row whose vector was removed between the two statements can no longer be compared.
        hits += [hit for hit in answer.hits if str(hit.key) in vectors]
        if hits:
            numbers = without_near_duplicates(
                np.array([vectors[str(hit.key)] for hit in hits]), threshold=threshold, of=of
            )
            kept = [hits[number] for number in numbers][:k]
        is_last = len(answer.hits) < batch
        if len(kept) == k or is_last or len(hits) >= MOST_CANDIDATES:
            break
        before = after_nearest(answer.hits, before=before, is_complete=answer.is_exact)
    notices = answer.notices
    if len(kept) < k and not is_last:
        notices = [
            *notices,
            f"near-duplicates: only {len(kept)} of the nearest {len(hits):,} articles differ from each other",
        ]
    return replace(answer, hits=kept, k=k, notices=notices, more=None)


def similar_enough(answer: Answer, request: SearchRequest) -> Answer:
    """The answer without articles below the request's minimum similarity or of unknown similarity.

    Cut here and not in the statement: an index scan would continue until it gives up once no further row can satisfy
    the condition (reported elsewhere: 36 times slower, caura-ai/caura#1650). The result does not count as a short
    answer of the index.
    """
    if request.min_similarity is None:
        return answer
    hits = [hit for hit in answer.hits if request.is_similar(hit)]
    # Hits are ordered by distance, so the end is cut off and there is no further page.
    return answer if len(hits) == len(answer.hits) else replace(answer, hits=hits, more=None)


def _likeness(hits: Sequence[Hit]) -> np.ndarray:
    """The relevance of each hit: its cosine similarity, or its score relative to the best score."""
    if all(hit.score is None for hit in hits):
        return np.array([hit.similarity if hit.similarity is not None else 0.0 for hit in hits])
    scores = np.array([hit.score or 0.0 for hit in hits])
    return scores / max(float(scores.max()), np.finfo(np.float64).tiny)


def most_diverse(likeness: Vectors, vectors: Vectors, *, k: int, diversity: float) -> list[int]:
    """The positions of k candidates in the order in which they are taken; all where there are fewer.

    `likeness`: (n,), to the query, 1 at most, largest first; `vectors`: (n, dim), of any length; a zero vector is
    similar to no other. Of equally good candidates the earlier is taken, so the result is deterministic. Time grows
    with k × n × dim.
    """
    directions = unit(vectors)
    relevance = np.asarray(likeness, dtype=np.float64)
    nearest_taken = np.full(len(directions), -np.inf)
    is_free = np.ones(len(directions), dtype=bool)
    taken: list[int] = []
    while len(taken) < min(k, len(directions)):
        # Nothing is taken yet, so the nearest comes first whatever the weights are.
        worth = (1 - diversity) * relevance - diversity * nearest_taken if taken else relevance
        chosen = int(np.argmax(np.where(is_free, worth, -np.inf)))
        taken.append(chosen)
        is_free[chosen] = False
        np.maximum(nearest_taken, directions @ directions[chosen], out=nearest_taken)
    return taken


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors, (n, dim), scaled to length 1 (zeros stay); in float64, so that equal ones have a product of 1 within
    1e-15."""
    wide = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    directions: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return directions


def without_near_duplicates(vectors: Vectors, *, threshold: float, of: Vectors | None = None) -> list[int]:
    """The positions of the candidates that are kept, in their order.

    Each of `vectors` ((n, dim), best first) is kept unless it is closer than `threshold` to one kept before it, or to
    `of` ((dim,): the article of the search). A chain of near-duplicates can drift: the third may be kept although it is
    close to the second, which was not.
    """
    directions = unit(vectors)
    kept: list[int] = []
    # Allocated once: a growing array would be copied for each vector.
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
    connection: Connection, table: CollectionTable, uris: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """uri → (dim,) float32; articles without a vector are left out. Reads only; 6 kB per vector at 1536 dimensions."""
    if not uris:
        return {}
    # One parameter, so that one statement works for any number of uris.
    statement = sql.SQL(
        "SELECT {key}::pg_catalog.text, {read} FROM {table} WHERE {vector} IS NOT NULL AND {key} IN "
        "(SELECT key::{key_type} FROM pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb) AS given (key))"
    ).format(
        key=table.key, read=table.vector_read, vector=table.vector, table=table.identifier, key_type=table.key_type
    )
    with translate_errors("reading the vectors of candidates"):
        rows = roundtrip.run(connection, (), statement.as_string(None), [json.dumps(list(uris))])
    return {uri: vector.to_numpy() for uri, vector in rows}
