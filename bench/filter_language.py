"""The cost of filters of the filter language beside the same as named filters, in turns over the same searches."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

import numpy as np
from article_corpus import corpus_arguments, corpus_of, instance_with, near
from conditions import filtered
from turns import summary, timed, turns

from everindex.articles.instance import Instance

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--timed", type=int, default=300, help="queries of each filter")
    parser.add_argument("--rounds", type=int, default=3, help="how often each of them is timed")
    options = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    corpus = corpus_of(options)
    queries = near(corpus.vectors, options.timed)
    with instance_with(corpus, options.home) as instance:
        found = [
            {"filter": condition.name, **compared(instance, queries, condition.only, rounds=options.rounds)}
            for condition in filtered(corpus)
        ]
    print(
        json.dumps(
            {
                "cores": os.cpu_count(), "load_before": round(load, 1), "rows": len(corpus.rows),
                "dimensions": corpus.vectors.shape[1], "k": K, "queries": len(queries), "rounds": options.rounds,
                "filters": found, "seconds": round(time.monotonic() - started),
            },
            indent=1,
        )
    )  # fmt: skip


def compared(instance: Instance, queries: np.ndarray, named: dict[str, str], *, rounds: int) -> dict[str, Any]:
    """Times of both forms, and the median of their ratio query by query."""
    forms = {"named": named, "language": {name: {"$eq": value} for name, value in named.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for vector in queries[:20]:  # what each has met before decides the way
        for filters in forms.values():
            instance.search_vector(vector, k=K, filters=filters)
    for turn, name in turns(list(forms), rounds * len(queries)):
        vector = queries[turn % len(queries)]
        took, _ = timed(lambda vector=vector, name=name: instance.search_vector(vector, k=K, filters=forms[name]))
        seconds[name].append(took)
    ratios = [one / other for one, other in zip(seconds["language"], seconds["named"], strict=True)]
    return {name: summary(each) for name, each in seconds.items()} | {
        "ratio_of_medians": round(statistics.median(seconds["language"]) / statistics.median(seconds["named"]), 3),
        "median_ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main()
