"""Every category of a corpus as a filter: what a search finds, and its time beside the cheaper of plain statements.

    python bench/categories.py --home DIRECTORY [--queries 100] [--least 50] [--vectors FILE.npy --rows FILE.jsonl]

Categories are clusters of the vector space, and queries are drawn from all rows: near some of them half of the rows pass, near
most of them none. Beside `search_vector`, in turns, three statements as one writes them by hand: `index`, a scan of the vector
index that iterates until it has its rows; `wide`, the same with a beam and a number of rows that find more; and `exact`, which
reads all rows that pass. Prints JSON: for each category with at least `--least` rows recall@10 of all, short answers, medians,
and the median of `search_vector` over the cheaper of `index` and `exact` (`over_cheaper`), and over the cheapest of those that
reach recall ADMISSIBLE (`over_admissible`): what finds less is no alternative. Then the mean and worst of them. Each category
is searched `--warm` times before, with other queries.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any

import numpy as np
from article_corpus import Corpus, corpus_arguments, corpus_of, instance_with, near
from exact import exact
from plain import K, plain_statement
from psycopg import Connection as AnyConnection
from turns import summary, timed, turns

from everindex.articles.instance import Instance
from everindex.articles.search.vector.strategy import FETCH_FACTOR
from everindex.pg.connections import connect
from everindex.pg.vector_type import register_vector

_ITERATING = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "hnsw.iterative_scan": "relaxed_order",
}
#: What makes the plain statement take the one way or the other.
WAYS = {
    "index": _ITERATING,
    "wide": _ITERATING | {"hnsw.ef_search": "200"},
    "exact": {"enable_indexscan": "off", "plan_cache_mode": "force_custom_plan"},
}
#: So many rows each takes.
ROWS = {"index": math.ceil(FETCH_FACTOR * K), "wide": 2 * K, "exact": K}
#: What a search is to find in each category.
ADMISSIBLE = 0.97


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    category_arguments(parser)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    corpus = corpus_of(options)
    with instance_with(corpus, options.home) as instance:
        found = measure_categories(instance, corpus, options)
    print(json.dumps({"cores": os.cpu_count(), "load_before": round(load, 1), **found}, indent=1))


def category_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queries", type=int, default=100, help="queries of each category")
    parser.add_argument("--warm", type=int, default=50, help="searches of each category before it is measured")
    parser.add_argument("--least", type=int, default=50, help="rows that a category has at least")
    parser.add_argument("--most-rows", type=int, default=None, help="leave out categories with more rows")


def measure_categories(instance: Instance, corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    categories = corpus.values("category")
    with ExitStack() as stack:
        ways = {name: stack.enter_context(_connection(instance, name)) for name in WAYS}
        found = [
            _category(instance, ways, corpus, str(category), categories == category, options)
            for category, rows in Counter(categories.tolist()).most_common()
            if category not in ("", "None") and options.least <= rows <= (options.most_rows or len(categories))
        ]
    return {
        "rows": len(corpus.rows),
        "dimensions": corpus.vectors.shape[1],
        "k": K,
        "queries": options.queries,
        "mean_recall": round(statistics.fmean(each["everindex"]["recall_at_10"] for each in found), 4),
        "worst_recall": min(each["everindex"]["recall_at_10"] for each in found),
        "short_answers": sum(each["everindex"]["short_answers"] for each in found),
        "worst_over_cheaper": max(each["over_cheaper"] for each in found),
        "worst_over_admissible": max(each["over_admissible"] for each in found),
        "categories": found,
    }


def _connection(instance: Instance, way: str) -> AnyConnection[Any]:
    connection = connect(instance.conninfo, application_name="everindex bench")
    register_vector(connection)
    connection.execute("SELECT '[1]'::vector")  # loads the library, which declares its settings
    for name, value in WAYS[way].items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    return connection


def _category(
    instance: Instance,
    ways: dict[str, AnyConnection[Any]],
    corpus: Corpus,
    category: str,
    passing: np.ndarray,
    options: argparse.Namespace,
) -> dict[str, Any]:
    for query in near(corpus.vectors, options.warm, seed=99):
        instance.search_vector(query, k=K, filters={"category": category})
    queries = near(corpus.vectors, options.queries)
    truth = exact(corpus.vectors[passing], queries, k=K)
    texts = {name: plain_statement("category", rows=rows) for name, rows in ROWS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("everindex", *ways)}
    recalls: dict[str, list[float]] = {name: [] for name in seconds}
    short, strategies = 0, Counter[str]()
    for turn, name in turns(list(seconds), len(queries)):
        query = queries[turn]
        if name == "everindex":
            taken, answer = timed(lambda: instance.search_vector(query, k=K, filters={"category": category}))  # noqa: B023
            likeness = [hit.similarity for hit in answer.hits]
            short += len(likeness) < truth.there(turn)
            strategies[answer.strategy] += 1
        else:
            values = {"vector": query, "value": category}
            taken, rows = timed(lambda: ways[name].execute(texts[name], values, binary=True, prepare=True).fetchall())  # noqa: B023
            likeness = sorted((1 - row[-1] for row in rows), reverse=True)[:K]
        seconds[name].append(taken)
        recalls[name].append(truth.recall(turn, np.array(likeness, dtype=np.float32)))
    found: dict[str, Any] = {
        name: {
            **summary(seconds[name]),
            "mean_ms": round(statistics.fmean(seconds[name]) * 1000, 2),
            "recall_at_10": round(statistics.fmean(recalls[name]), 4),
        }
        for name in seconds
    }
    found["everindex"] |= {"short_answers": short, "strategies": dict(strategies)}
    ours = found["everindex"]["median_ms"]
    cheaper = min(found[name]["median_ms"] for name in ("index", "exact"))
    admissible = min(found[name]["median_ms"] for name in ways if found[name]["recall_at_10"] >= ADMISSIBLE)
    result = {
        "category": category,
        "rows_passing": int(passing.sum()),
        **found,
        "over_cheaper": round(ours / cheaper, 3),
        "over_admissible": round(ours / admissible, 3),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
