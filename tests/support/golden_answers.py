"""What an instance must answer, computed from its rows in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from everindex.articles.instance import Instance
from everindex.articles.model import Answer, Filters

#: pgvector adds up in float32, numpy here in float64.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """All rows with a vector: facts and `(n, dim)` float64 directions of length 1."""

    rows: list[dict[str, Any]]
    directions: np.ndarray

    def distances(self, vector: np.ndarray) -> np.ndarray:
        """`(n,)` cosine distances of the rows to `vector`."""
        query = vector.astype(np.float64)
        return 1.0 - self.directions @ (query / np.linalg.norm(query))

    def passing(self, filters: Filters) -> np.ndarray:
        """The numbers of the rows that pass, by comparing text prefixes: another way than the statement's."""
        return np.array([number for number, row in enumerate(self.rows) if passes(row, filters)], dtype=int)

    def nearest(self, vector: np.ndarray, filters: Filters, *, k: int) -> dict[str, float]:
        """The k nearest passing rows, uri → distance, nearest first."""
        numbers = self.passing(filters)
        distances = self.distances(vector)[numbers]
        order = np.argsort(distances, kind="stable")[:k]
        return {self.rows[numbers[i]]["uri"]: float(distances[i]) for i in order}

    def recall(self, answer: Answer, vector: np.ndarray, filters: Filters, *, k: int) -> float:
        """The share of the golden answer that is in `answer`, by distance, so that ties count as right."""
        golden = list(self.nearest(vector, filters, k=k).values())
        if not golden:
            return 1.0
        return sum(hit.distance <= golden[-1] + TOLERANCE for hit in answer.hits) / len(golden)


def passes(row: dict[str, Any], filters: Filters) -> bool:
    """Whether a row may answer. A date passes `until` when it starts with it or comes before it."""
    date = row["publication_date"]
    return (
        all(
            getattr(filters, name) is None or row[name] == getattr(filters, name)
            for name in ("category", "topic", "news_source")
        )
        and (filters.since is None or (date is not None and date[:10] >= filters.since))
        and (filters.until is None or (date is not None and date[: len(filters.until)] <= filters.until))
    )


def golden_of(instance: Instance) -> Golden:
    """Reads the whole table."""
    with instance.connection() as connection:
        found = connection.execute(
            "SELECT uri, category, topic, news_source, publication_date, embedding FROM articles "
            "WHERE embedding IS NOT NULL ORDER BY uri",
            binary=True,
        ).fetchall()
    names = ("uri", "category", "topic", "news_source", "publication_date")
    vectors = np.array([row[5].to_numpy() for row in found], dtype=np.float64)
    return Golden(
        rows=[dict(zip(names, row, strict=False)) for row in found],
        directions=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def check_answer(answer: Answer, golden: Golden, vector: np.ndarray, filters: Filters, *, k: int) -> None:
    """What holds for every answer, however it was found: complete, filtered, in order, at the right distances."""
    by_uri = {row["uri"]: number for number, row in enumerate(golden.rows)}
    distances = golden.distances(vector)
    numbers = [by_uri[hit.uri] for hit in answer.hits]
    assert len(numbers) == len(set(numbers)) == min(k, len(golden.passing(filters)))
    assert all(passes(golden.rows[number], filters) for number in numbers)
    told = [hit.distance for hit in answer.hits]
    assert told == sorted(told)
    assert np.allclose(told, distances[numbers], atol=TOLERANCE, rtol=0)


def check_exact(answer: Answer, golden: Golden, vector: np.ndarray, filters: Filters, *, k: int) -> None:
    """The answer is the golden one; rows equally far may stand for each other."""
    check_answer(answer, golden, vector, filters, k=k)
    expected = golden.nearest(vector, filters, k=k)
    assert np.allclose([hit.distance for hit in answer.hits], list(expected.values()), atol=TOLERANCE, rtol=0)
    if expected:
        last = max(expected.values())
        certain = {uri for uri, distance in expected.items() if distance < last - TOLERANCE}
        assert certain <= {hit.uri for hit in answer.hits}
