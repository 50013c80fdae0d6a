"""The cost and the recall of filtered searches, beside the plan that PostgreSQL makes by itself, in turns."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import psycopg
from article_corpus import Corpus, corpus_arguments, corpus_of, instance_with, near
from categories import category_arguments, measure_categories
from conditions import Condition, filtered, no_match, unfiltered
from exact import exact
from plain import K, plain_statement
from turns import summary, timed, turns

from everindex.articles.instance import Instance
from everindex.pg.connections import Connection, connect
from everindex.pg.vector_type import register_vector

LARGE = (100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument(
        "--searches", type=int, default=1000, help="searches of each filter that are looked at for recall"
    )
    parser.add_argument("--timed", type=int, default=200, help="queries of each filter that are timed")
    parser.add_argument("--rounds", type=int, default=2, help="how often each of them is timed")
    category_arguments(parser)
    options = parser.parse_args()
    print(json.dumps(measure(options), indent=1))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    load, started = os.getloadavg()[0], time.monotonic()
    corpus = corpus_of(options)
    queries = near(corpus.vectors, min(options.searches, len(corpus.rows)))
    every = [*filtered(corpus), no_match(corpus)]
    with (
        instance_with(corpus, options.home) as instance,
        connect(instance.conninfo, application_name="everindex bench") as plain,
    ):
        register_vector(plain)
        as_postgresql_comes(plain)
        found = [
            _condition(instance, plain, corpus, queries, condition, timed_queries=options.timed, rounds=options.rounds)
            for condition in every
        ]
        large = [
            _large(instance, corpus, queries[:100], condition, k=k)
            for k in LARGE
            for condition in (unfiltered(corpus), *every)
        ]
        categories = measure_categories(instance, corpus, options)
    return {
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "rows": len(corpus.rows),
        "dimensions": corpus.vectors.shape[1],
        "k": K,
        "searches": len(queries),
        "timed_queries": options.timed,
        "rounds": options.rounds,
        "filters": found,
        "large_k": large,
        "categories": categories,
        "seconds": round(time.monotonic() - started),
    }


def as_postgresql_comes(connection: Connection) -> None:
    """Gives this session the planner settings, work_mem and pgvector settings that a fresh PostgreSQL has."""
    connection.execute("SELECT '[1]'::vector")  # loads the library, which declares its settings
    connection.execute("SET plan_cache_mode = force_custom_plan")  # a plan for the value, and not for any
    connection.execute(
        "SELECT pg_catalog.set_config(name, boot_val, false) FROM pg_catalog.pg_settings "
        "WHERE (category LIKE 'Query Tuning%' OR name LIKE 'hnsw.%' OR name = 'work_mem') AND context = 'user' "
        "AND name <> 'plan_cache_mode'"
    )


def _condition(
    instance: Instance,
    plain: Connection,
    corpus: Corpus,
    queries: np.ndarray,
    condition: Condition,
    *,
    timed_queries: int,
    rounds: int,
) -> dict[str, Any]:
    truth = exact(corpus.vectors[condition.passing], queries, k=K)
    ((column, value),) = condition.only.items()
    text = plain_statement(column)
    recalls, short, strategies = [], 0, Counter[str]()
    for number, query in enumerate(queries):
        answer = instance.search_vector(query, k=K, filters=condition.only)
        likeness = np.array([hit.similarity for hit in answer.hits], dtype=np.float32)
        recalls.append(truth.recall(number, likeness))
        short += len(answer.hits) < truth.there(number)
        strategies[answer.strategy] += 1
    asked = min(timed_queries, len(queries))
    rivals = {"default_plan": "on", "default_plan_without_index": "off"}  # enable_indexscan
    told: dict[str, dict[str, Any]] = {}
    for name, allowed in rivals.items():
        plain.execute(f"SET enable_indexscan = {allowed}")
        found_by = [_ask(plain, text, query, value) for query in queries[:asked]]
        told[name] = {
            "recall_at_10": round(
                statistics.fmean(
                    truth.recall(number, np.array([1 - row[-1] for row in rows], dtype=np.float32))
                    for number, rows in enumerate(found_by)
                ),
                4,
            ),
            "short_answers": sum(len(rows) < truth.there(number) for number, rows in enumerate(found_by)),
            "of": asked,
            "plan": _plan(plain, text, queries[0], value),
        }
    times: dict[str, list[float]] = {"everindex": [], **{name: [] for name in rivals}}
    for turn, name in turns(list(times), rounds * asked):
        query = queries[turn % asked]
        if name == "everindex":
            seconds, _ = timed(lambda: instance.search_vector(query, k=K, filters=condition.only))  # noqa: B023
        else:
            plain.execute(f"SET enable_indexscan = {rivals[name]}")
            seconds, _ = timed(lambda: _ask(plain, text, query, value))  # noqa: B023
        times[name].append(seconds)
    ours = summary(times["everindex"])
    theirs = {name: summary(times[name]) for name in rivals}
    found = {
        "filter": condition.name,
        "only": condition.only,
        "share": condition.share,
        "rows_passing": int(condition.passing.sum()),
        "everindex": {
            **ours,
            "recall_at_10": round(statistics.fmean(recalls), 4),
            "worst_recall": round(min(recalls), 2),
            "short_answers": short,
            "of": len(queries),
            "strategies": dict(strategies),
        },
        **{name: {**theirs[name], **told[name]} for name in rivals},
        **{f"median_over_{name}": round(ours["median_ms"] / theirs[name]["median_ms"], 3) for name in rivals},
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def _ask(connection: Connection, text: str, vector: np.ndarray, value: str) -> list[tuple[Any, ...]]:
    return connection.execute(text, {"vector": vector, "value": value}, binary=True, prepare=True).fetchall()


def _plan(connection: Connection, text: str, vector: np.ndarray, value: str) -> str:
    """The nodes of the default plan, from the top."""
    explained = "EXPLAIN (FORMAT JSON) " + text
    row = psycopg.ClientCursor(connection).execute(explained, {"vector": vector, "value": value}).fetchone()
    assert row is not None
    node, names = row[0][0]["Plan"], []
    while node is not None:
        names.append(" ".join(part for part in (node["Node Type"], node.get("Index Name")) if part))
        node = next(iter(node.get("Plans", [])), None)
    return " > ".join(names)


def _large(instance: Instance, corpus: Corpus, queries: np.ndarray, condition: Condition, *, k: int) -> dict[str, Any]:
    """How many rows a large k gives, and how many of them are right."""
    truth = exact(corpus.vectors[condition.passing], queries, k=k)
    seconds, recalls, short, strategies = [], [], 0, Counter[str]()
    for number, query in enumerate(queries):
        taken, answer = timed(lambda: instance.search_vector(query, k=k, filters=condition.only))  # noqa: B023
        seconds.append(taken)
        likeness = np.array([hit.similarity for hit in answer.hits], dtype=np.float32)
        recalls.append(truth.recall(number, likeness))
        short += len(answer.hits) != truth.there(number)
        strategies[answer.strategy] += 1
    found = {
        "k": k,
        "filter": condition.name,
        "rows_passing": int(condition.passing.sum()),
        **summary(seconds),
        "recall_at_k": round(statistics.fmean(recalls), 4),
        "answers_of_another_length": short,
        "of": len(queries),
        "strategies": dict(strategies),
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
