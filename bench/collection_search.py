"""A search of a collection beside the same of the articles and beside raw SQL, and partial indexes beside the usual ways.

The collection is laid over the table of articles: rows, vectors and index are the same, and they take turns query by query. For
each filter with enough rows the search is timed and compared with the exact one, without a partial index and with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from article_corpus import COLUMNS, corpus_arguments, corpus_of, instance_with, near
from conditions import Condition, filtered
from psycopg import sql
from turns import summary, timed, turns

from everindex.articles.collections.collection import Collection
from everindex.articles.instance import Instance
from everindex.pg.connections import connect
from everindex.pg.vector_type import register_vector

K = 10
#: A filter of fewer rows is read at once.
FEWEST_SHARE = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--timed", type=int, default=300, help="queries")
    parser.add_argument("--rounds", type=int, default=5, help="how often each of them is timed")
    parser.add_argument(
        "--filtered", type=int, default=100, help="queries of each filter, each timed twice; 0: no filters"
    )
    options = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    corpus = corpus_of(options)
    queries = near(corpus.vectors, options.timed)
    with instance_with(corpus, options.home, settings={"shared_buffers": "1GB"}) as instance:
        laid = instance.collection_of(
            table="articles", key="uri", text=["title", "summary"], vector="embedding", name="again", deploys=False,
            metadata=["news_source", "category", "topic", "publication_date"], date="publication_date",
        )  # fmt: skip
        for left in instance.partial_indexes():  # by a run that was ended
            instance.drop_partial_index(left.filters)
        try:
            found = {
                "unfiltered": unfiltered(instance, laid, queries, rounds=options.rounds),
                "partial": [
                    with_partial(instance, queries[: options.filtered], condition, rounds=2)
                    for condition in filtered(corpus)
                    if condition.share >= FEWEST_SHARE and options.filtered
                ],
            }
        finally:
            instance.drop_collection("again")
    print(
        json.dumps(
            {
                "cores": os.cpu_count(), "load_before": round(load, 1), "rows": len(corpus.rows),
                "dimensions": corpus.vectors.shape[1], "k": K, "queries": len(queries), "rounds": options.rounds, **found,
                "seconds": round(time.monotonic() - started),
            },
            indent=1,
        )
    )  # fmt: skip


def unfiltered(instance: Instance, laid: Collection, queries: np.ndarray, *, rounds: int) -> dict[str, Any]:
    """Raw psycopg with a prepared statement, a binary vector and the settings in its session; the articles; the collection."""
    statement = sql.SQL(
        "SELECT {columns}, embedding <=> %(vector)b AS distance FROM articles ORDER BY embedding <=> %(vector)b LIMIT {k}"
    ).format(columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)), k=sql.Literal(K))
    with connect(instance.direct_conninfo) as raw:
        register_vector(raw)
        raw.execute("SET hnsw.ef_search = 40")
        subjects: dict[str, Callable[[np.ndarray], Any]] = {
            "raw": lambda vector: raw.execute(statement, {"vector": vector}, binary=True, prepare=True).fetchall(),
            "articles": lambda vector: instance.search_vector(vector, k=K),
            "collection": lambda vector: laid.search_vector(vector, k=K),
        }
        seconds = in_turns(subjects, queries, rounds=rounds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    found: dict[str, Any] = {name: summary(each) for name, each in seconds.items()} | {
        "collection_over_articles": round(medians["collection"] / medians["articles"], 3),
        "collection_over_raw": round(medians["collection"] / medians["raw"], 3),
        "median_ratio_to_articles": ratio_by_query(seconds, "articles"),
        "median_ratio_to_raw": ratio_by_query(seconds, "raw"),
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def ratio_by_query(seconds: dict[str, list[float]], other: str) -> float:
    """The median over all turns of the collection's time over that of another subject in the same turn."""
    pairs = zip(seconds["collection"], seconds[other], strict=True)
    return round(statistics.median(one / another for one, another in pairs), 3)


def with_partial(instance: Instance, queries: np.ndarray, condition: Condition, *, rounds: int) -> dict[str, Any]:
    """The filter as it is searched without a partial index, and with one."""
    filters = condition.only
    exact = [keys(instance.search_vector(vector, k=K, filters=filters, exact=True)) for vector in queries]
    found: dict[str, Any] = {"filter": condition.name, "share": condition.share}
    for way in ("without", "with"):
        if way == "with":
            built, _ = timed(lambda: instance.add_partial_index(filters))
            found["built_in_seconds"] = round(built, 1)
        search = partial(instance.search_vector, k=K, filters=filters)
        for vector in queries[:40]:  # what a filter has met before decides the way
            search(vector)
        seconds = in_turns({way: search}, queries, rounds=rounds)[way]
        answers = [search(vector) for vector in queries]
        found[way] = summary(seconds) | {
            "recall": round(
                statistics.mean(
                    len(keys(answer) & true) / len(true) for answer, true in zip(answers, exact, strict=True)
                ),
                4,
            ),
            "strategies": sorted({answer.strategy for answer in answers}),
        }
    instance.drop_partial_index(filters)
    found["ratio"] = round(found["with"]["median_ms"] / found["without"]["median_ms"], 3)
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def in_turns(
    subjects: dict[str, Callable[[np.ndarray], Any]], queries: np.ndarray, *, rounds: int
) -> dict[str, list[float]]:
    """Seconds of every call, by subject."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for vector in queries[:20]:
        for subject in subjects.values():
            subject(vector)
    for turn, name in turns(list(subjects), rounds * len(queries)):
        took, _ = timed(partial(subjects[name], queries[turn % len(queries)]))
        seconds[name].append(took)
    return seconds


def keys(answer: Any) -> set[str]:
    return {hit.key for hit in answer.hits}


if __name__ == "__main__":
    main()
