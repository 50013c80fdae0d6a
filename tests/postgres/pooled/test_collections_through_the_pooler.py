"""A collection behind PgBouncer in transaction mode: made, written, searched and proven as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg

from everindex.articles.connect import connect_instance
from everindex.settings import Settings

VECTORS = np.random.default_rng(2).normal(size=(1500, 8)).astype(np.float32)


def test_a_collection_over_a_table_of_others_works_through_the_pooler(
    cluster: Any, in_transaction_mode: Callable[[str], str]
) -> None:
    direct = cluster.database()
    with psycopg.connect(direct, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE notes (nr int PRIMARY KEY, body text, part int, v vector(8))")
        with connection.cursor().copy("COPY notes FROM STDIN") as copy:
            for n, vector in enumerate(VECTORS):
                copy.write_row((n, f"the {('tiger', 'rust')[n % 2]} {n}", n % 5, str(vector.tolist())))
    settings = Settings(DATABASE_URL=in_transaction_mode(direct), DATABASE_URL_DIRECT=direct)
    with connect_instance(settings=settings) as instance:
        laid = instance.collection_of(table="notes", key="nr", text=["body"], vector="v", metadata=["part"])
        query = VECTORS[3] + 0.1
        cosine = 1 - VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)
        for number in range(12):
            k = 5 + number
            exact = laid.search_vector(query, k=k, exact=True)
            assert [hit.key for hit in exact.hits] == np.argsort(cosine)[:k].tolist()
            assert laid.search_vector(query, k=k).strategy == "index"
            passing = [hit.key for hit in laid.search_vector(query, k=k, filters={"part": 2}).hits]
            assert all(key % 5 == 2 for key in passing)
            assert len(passing) == k
        assert len(laid.search("tiger", mode="keyword", k=1000).hits) == 750
        laid.add_partial_index({"part": 2})
        for _ in range(7):
            found = laid.search_vector(query, filters={"part": 2})
            assert (found.strategy, found.notices) == ("partial-index", [])
            assert laid.search_vector(query, filters={"part": 1}).notices == []
        assert laid.verify(samples=5, max_seconds=5).holds
        assert laid.delete([3]) == 1
        made = instance.collection("made", dim=8, text=())
        made.upsert([{"id": str(n)} for n in range(20)], vectors=VECTORS[:20], model="mine")
        assert made.search_vector(VECTORS[7], k=1).hits[0].key == "7"
        instance.drop_collection("made")
    cluster.drop(direct)
