"""The cost and accuracy of further result pages, and the gain of many searches in one call."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from article_corpus import corpus_arguments, corpus_of, instance_with, near

from everindex.articles.instance import Instance
from everindex.articles.search.request.cursor import Cursor
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.shape.hit import Hit

K = 10
DEPTHS = (0, 10, 40, 90, 240, 490, 990, 1990, 4990, 9990)
QUERIES = 8
ROUNDS = 5
WALKED_PAGES = 50
MANY = 100


def milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return (time.perf_counter() - started) * 1000, result


def exact_order(instance: Instance, vector: np.ndarray, rows: int) -> list[Hit]:
    """The nearest `rows` articles, or all where there are fewer."""
    hits: list[Hit] = []
    after: str | None = None
    while len(hits) < rows:
        answer = instance.search_vector(vector, k=1000, exact=True, after=after)
        hits += answer.hits
        after = answer.next_cursor
        if after is None:
            break
    return hits


def pages(instance: Instance, queries: np.ndarray) -> list[dict[str, Any]]:
    orders = [exact_order(instance, vector, DEPTHS[-1] + K) for vector in queries]
    found = []
    for depth in DEPTHS:
        if depth + K > len(orders[0]):
            break
        chosen, exactly, recalls, strategies = [], [], [], set()
        for _ in range(ROUNDS):
            for vector, order in zip(queries, orders, strict=True):
                last = order[depth - 1] if depth else None
                after = Cursor(distance=last.distance or 0.0, uri=last.uri, shown=depth) if last else None
                here = Page(request=SearchRequest(mode="semantic", vector=vector, k=K), k=K, after=after)
                took, answer = milliseconds(lambda: instance.engine.search(here, vector))  # noqa: B023
                chosen.append(took)
                strategies.add(answer.strategy)
                right = {hit.uri for hit in order[depth : depth + K]}
                recalls.append(len(right & {hit.uri for hit in answer.hits}) / K)
                exact = replace(here, request=replace(here.request, exact=True))
                exactly.append(milliseconds(lambda: instance.engine.search(exact, vector))[0])  # noqa: B023
        found.append(
            {
                "shown_before": depth,
                "strategy": "/".join(sorted(strategies)),
                "median_ms": round(statistics.median(chosen), 2),
                "exact_median_ms": round(statistics.median(exactly), 2),
                "recall_of_the_page": round(statistics.fmean(recalls), 3),
            }
        )
    return found


def walks(instance: Instance, queries: np.ndarray) -> dict[str, Any]:
    repeated, recalls, singles = 0, [], []
    for vector in queries:
        hits: list[Hit] = []
        after: str | None = None
        for _ in range(WALKED_PAGES):
            answer = instance.search_vector(vector, k=K, after=after)
            hits += answer.hits
            after = answer.next_cursor
        uris = {hit.uri for hit in hits}
        repeated += len(hits) - len(uris)
        true = {hit.uri for hit in exact_order(instance, vector, K * WALKED_PAGES)[: K * WALKED_PAGES]}
        recalls.append(len(true & uris) / len(true))
        single = instance.search_vector(vector, k=K * WALKED_PAGES)
        singles.append(len(true & {hit.uri for hit in single.hits}) / len(true))
    return {
        "pages": WALKED_PAGES,
        "repeated": repeated,
        "recall_of_all_pages": round(statistics.fmean(recalls), 4),
        "recall_of_one_search_for_as_many": round(statistics.fmean(singles), 4),
    }


def many(instance: Instance, queries: np.ndarray) -> dict[str, float]:
    one_by_one, at_once = [], []
    for _ in range(2 * ROUNDS):
        one_by_one.append(milliseconds(lambda: [instance.search_vector(vector, k=K) for vector in queries])[0])
        at_once.append(milliseconds(lambda: instance.search_many(queries, k=K))[0])
    return {
        "searches": len(queries),
        "one_by_one_ms_each": round(statistics.median(one_by_one) / len(queries), 3),
        "at_once_ms_each": round(statistics.median(at_once) / len(queries), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    corpus_arguments(parser, rows=20_000)
    options = parser.parse_args()
    corpus = corpus_of(options)
    with instance_with(corpus, options.home, settings={"shared_buffers": "1GB"}) as instance:
        queries = near(corpus.vectors, MANY)
        instance.search_many(queries, k=100)  # warm
        document = {
            "rows": len(corpus.rows),
            "dimensions": corpus.vectors.shape[1],
            "k": K,
            "pages": pages(instance, queries[:QUERIES]),
            "walks": walks(instance, queries[:QUERIES]),
            "many": many(instance, queries),
        }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
