"""While no index serves, a search compares the bits of all rows: whatever happens to the rows meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest

from everindex.articles.instance import Instance
from everindex.articles.search.vector import row_codes
from everindex.articles.search.vector.strategy import BY_ROW_CODES, NO_INDEX

INDEX = "articles_embedding_hnsw_idx"


@pytest.fixture(autouse=True)
def _small_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_codes, "FEWEST_ROWS", 500)


@pytest.fixture
def without_index(cluster: Any, with_articles: str, open_instance: Callable[..., Instance]) -> Instance:
    conninfo = cluster.database(with_articles)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX}")
    return open_instance(conninfo)


def vectors_of(instance: Instance) -> tuple[list[str], np.ndarray]:
    with psycopg.connect(instance.conninfo) as connection:
        rows = connection.execute(
            "SELECT uri, embedding::text FROM articles WHERE embedding IS NOT NULL ORDER BY uri"
        ).fetchall()
    return [row[0] for row in rows], np.array([np.fromstring(row[1][1:-1], sep=",") for row in rows], dtype=np.float32)


def recall(instance: Instance, vectors: np.ndarray, queries: np.ndarray, **options: Any) -> float:
    shares = []
    for query in queries:
        answer = instance.search_vector(query, k=10, **options)
        assert (answer.strategy, answer.notices) == ("exact", [f"{BY_ROW_CODES} (exact search)"])
        likeness = vectors @ query / np.linalg.norm(query)
        tenth = np.sort(likeness)[-10]
        shares.append(sum(hit.similarity >= tenth - 1e-5 for hit in answer.hits) / 10)
        assert [hit.distance for hit in answer.hits] == sorted(hit.distance for hit in answer.hits)
    return float(np.mean(shares))


def test_the_nearest_rows_are_found_and_the_answer_says_how(without_index: Instance) -> None:
    uris, vectors = vectors_of(without_index)
    assert recall(without_index, vectors, vectors[::125] + 0.002) >= 0.99
    filtered = without_index.search_vector(vectors[3], k=5, filters={"since": "1990"})
    assert filtered.notices == [f"{BY_ROW_CODES} (exact search)"]
    assert filtered.hits[0].uri == uris[3]


def test_whatever_happens_to_the_rows_every_search_compares_those_that_there_are(without_index: Instance) -> None:
    uris, vectors = vectors_of(without_index)
    query, other = vectors[0], vectors[1700]
    literal = "[" + ",".join(map(str, query.tolist())) + "]"
    codes = without_index.engine.row_codes

    def nearest() -> list[str]:
        return [hit.uri for hit in without_index.search_vector(query, k=3).hits]

    with psycopg.connect(without_index.conninfo, autocommit=True) as sql:
        assert nearest()[0] == uris[0]
        assert nearest()[0] == uris[0]
        assert codes.rows_read == len(uris), "read once"
        sql.execute("UPDATE articles SET embedding = %s WHERE uri = %s", (literal, uris[1700]))
        assert set(nearest()[:2]) == {uris[0], uris[1700]}
        sql.execute("UPDATE articles SET title = title || '!' WHERE uri = %s", (uris[1700],))
        assert set(nearest()[:2]) == {uris[0], uris[1700]}
        assert codes.rows_read == len(uris) + 2, "and a row that changed alone"
        sql.execute("DELETE FROM articles WHERE uri = %s", (uris[0],))
        assert nearest()[0] == uris[1700]
        # The rows are written anew in another order: a place and a transaction now mean another row.
        sql.execute("CREATE INDEX by_title ON articles (title)")
        sql.execute("CLUSTER articles USING by_title")
        assert nearest()[0] == uris[1700]
        assert codes.rows_read == len(uris) + 2 + len(uris) - 1
        far = without_index.search_vector(other, k=1).hits[0]
        sql.execute("UPDATE articles SET embedding = NULL WHERE uri = %s", (far.uri,))
        assert without_index.search_vector(other, k=1).hits[0].uri != far.uri


def test_a_row_that_another_transaction_is_writing_is_not_seen_before_it_commits(without_index: Instance) -> None:
    _, vectors = vectors_of(without_index)
    literal = "[" + ",".join(map(str, vectors[0].tolist())) + "]"
    with psycopg.connect(without_index.conninfo) as sql:
        sql.execute("INSERT INTO articles (uri, title, embedding) VALUES ('twin', 'Twin', %s)", (literal,))
        assert "twin" not in {hit.uri for hit in without_index.search_vector(vectors[0], k=3).hits}
        sql.commit()
    assert "twin" in {hit.uri for hit in without_index.search_vector(vectors[0], k=3).hits}


def test_a_table_that_is_too_large_or_too_small_for_it_is_read(
    without_index: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, vectors = vectors_of(without_index)
    for name, value in (("FEWEST_ROWS", 100_000), ("MOST_BYTES", 10_000)):
        with monkeypatch.context() as context:
            context.setattr(row_codes, name, value)
            answer = without_index.search_vector(vectors[0], k=3)
            assert (answer.strategy, answer.notices) == ("exact", [f"{NO_INDEX}: every row was read (exact search)"])


def test_with_an_index_the_memory_is_given_back_and_who_asks_for_an_exact_search_gets_one(
    without_index: Instance,
) -> None:
    _, vectors = vectors_of(without_index)
    without_index.search_vector(vectors[0])
    assert without_index.search_vector(vectors[0], exact=True).notices == []
    assert without_index.search_vector(vectors[0], exact=True).reason == "exact search was requested"
    with psycopg.connect(without_index.conninfo, autocommit=True) as sql:
        sql.execute(f"CREATE INDEX {INDEX} ON articles USING hnsw (embedding vector_cosine_ops)")
    without_index.invalidate()
    assert without_index.search_vector(vectors[0]).strategy == "index"
    assert without_index.engine.row_codes.rows_kept == 0
