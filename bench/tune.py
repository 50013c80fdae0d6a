"""The outcome of `everindex tune`, applied on one instance and checked with other queries by numpy."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from article_corpus import Vectors, corpus_arguments, corpus_of, instance_with, near

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.index.catalog.effective_spec import effective_spec
from everindex.index.catalog.observe import in_search_path
from everindex.index.deploy.warm import warm
from everindex.index.tuning.apply import apply_advice
from everindex.index.tuning.recommendation import advise
from everindex.index.tuning.survey_result import Budget
from everindex.pg.capabilities import look, version_text
from everindex.web.pages.curve_svg import svg_of

K = 10


def check(instance: Instance, vectors: Vectors, queries: Vectors) -> dict[str, Any]:
    """recall@10 of `search_vector` against numpy, and its milliseconds."""
    uris = np.array([f"bench:{number}" for number in range(len(vectors))])
    times, found = [], 0
    for query in queries[:20]:
        instance.search_vector(query, k=K)
    for query in queries:
        true = set(uris[np.argpartition(-(vectors @ query), K)[:K]])
        started = time.perf_counter()
        answer = instance.search_vector(query, k=K)
        times.append((time.perf_counter() - started) * 1000)
        found += len(true & {hit.uri for hit in answer.hits})
    return {
        "strategy": answer.strategy,
        "ef_search": answer.ef_search,
        "recall": found / (K * len(queries)),
        "queries": len(queries),
        "median_ms": statistics.median(times),
        "p95_ms": sorted(times)[int(0.95 * len(times))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    corpus_arguments(parser)
    parser.add_argument("--recall", type=float, default=0.98)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    corpus = corpus_of(options)
    queries = near(corpus.vectors, 500, seed=11)
    budget = Budget(queries=200, sample_rows=100_000, max_seconds=900)
    with instance_with(corpus, options.home) as instance:
        conninfo = instance.direct_conninfo
        with instance.connection() as connection:
            declared, spec = in_search_path(connection, EMBEDDING_INDEX), effective_spec(connection, EMBEDDING_INDEX)
            server = look(connection)
        warm(conninfo, spec, max_seconds=60)
        before = check(instance, corpus.vectors, queries)
        started = time.perf_counter()
        advice = advise(conninfo, spec, floor=options.recall, budget=budget, say=lambda text: print(text, flush=True))
        advised = time.perf_counter() - started
        result: dict[str, Any] = {
            "rows": len(corpus.vectors),
            "dimensions": int(corpus.vectors.shape[1]),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "postgresql": server.server_version,
            "pgvector": version_text(server.extension_version),
            "tune_seconds": round(advised, 1),
            "advice": advice.as_dict(),
            "check_before": before,
        }
        if options.svg:
            found = advice.survey
            svg = svg_of(found.curves, name=spec.name, k=K, floor=options.recall, chosen=found.chosen_ef_search)
            options.svg.write_text(svg or "", encoding="utf-8")
        if advice.choice is not None:
            started = time.perf_counter()
            applied = apply_advice(conninfo, declared, advice, budget=budget, say=lambda text: print(text, flush=True))
            result["apply_seconds"] = round(time.perf_counter() - started, 1)
            result["applied"] = applied.as_dict()
            instance.invalidate()
            warm(conninfo, spec, max_seconds=60)
            result["check_after"] = check(instance, corpus.vectors, queries)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
