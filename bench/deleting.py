"""Deletion of a tenth of the rows: its time beside the bare statements, and what searches find meanwhile and after it."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from article_corpus import Corpus, corpus_arguments, corpus_of, instance_with, near
from exact import Exact, exact
from psycopg import sql
from psycopg.conninfo import make_conninfo
from turns import timed, turns

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.pg.connections import connect
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

K = 10
GONE = {"topic": "tenth"}
#: What somebody writes by hand to the same end, in one transaction.
BARE = (
    "DELETE FROM everindex_meta.embedding_record r USING articles a WHERE a.uri = r.uri AND a.topic = 'tenth'",
    "DELETE FROM everindex_meta.embedding_failure f USING articles a WHERE a.uri = f.uri AND a.topic = 'tenth'",
    "DELETE FROM raw_articles t USING articles a WHERE a.uri = t.uri AND a.topic = 'tenth'",
    "DELETE FROM articles WHERE topic = 'tenth'",
)
#: Full texts and records, as an import has stored them.
FILL = (
    "INSERT INTO raw_articles (uri, raw_markdown) SELECT uri, summary FROM articles ON CONFLICT DO NOTHING",
    "INSERT INTO everindex_meta.embedding_record (uri, model) SELECT uri, 'bench' FROM articles ON CONFLICT DO NOTHING",
    "VACUUM ANALYZE",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--rounds", type=int, default=5, help="deletions of each kind that are timed")
    parser.add_argument("--searches", type=int, default=500, help="queries that are looked at for recall")
    parser.add_argument("--clients", type=int, default=4, help="threads that search meanwhile")
    options = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    corpus = corpus_of(options)
    with instance_with(corpus, options.home) as instance, connect(instance.conninfo) as connection:
        for statement in FILL:
            connection.execute(statement)
    with embedded.running(options.home / "server") as conninfo:
        found = measure(conninfo, corpus, options)
    print(
        json.dumps(
            {
                "cores": os.cpu_count(), "load_before": round(load, 1), "rows": len(corpus.rows),
                "dimensions": corpus.vectors.shape[1], "k": K, **found, "seconds": round(time.monotonic() - started),
            },
            indent=1,
        )
    )  # fmt: skip
    if found["meanwhile"]["wrong"]:
        sys.exit(1)


def measure(conninfo: str, corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    gone = corpus.values("topic") == GONE["topic"]
    queries = near(corpus.vectors, min(options.searches, len(corpus.rows)))
    before, after = exact(corpus.vectors, queries, k=K), exact(corpus.vectors[~gone], queries, k=K)
    taken: dict[str, list[float]] = {"bare": [], "everindex": []}
    deleted: set[int] = set()
    for _, kind in turns(tuple(taken), options.rounds):
        with copy_of(conninfo) as copy:
            seconds, rows = _bare(copy) if kind == "bare" else _ours(copy)
        taken[kind].append(seconds)
        deleted.add(rows)
        print(f"{kind}: {rows} rows in {seconds:.3f} s", file=sys.stderr)
    assert deleted == {int(gone.sum())}, deleted
    with copy_of(conninfo) as copy, connect_instance(copy, settings=Settings()) as instance:
        uris = {row["uri"] for row, is_gone in zip(corpus.rows, gone, strict=True) if is_gone}
        recall_before = recall_of(instance, queries, before)
        meanwhile = searched_meanwhile(instance, queries, uris, before, after, clients=options.clients)
        recall_after = recall_of(instance, queries, after)
        with psycopg.connect(copy, autocommit=True) as connection:
            seconds, _ = timed(lambda: connection.execute("VACUUM articles"))
        recall_vacuumed = recall_of(instance, queries, after)
    medians = {kind: statistics.median(each) for kind, each in taken.items()}
    return {
        "deleted": int(gone.sum()),
        "rounds": options.rounds,
        "bare_seconds": [round(each, 3) for each in taken["bare"]],
        "everindex_seconds": [round(each, 3) for each in taken["everindex"]],
        "ratio_of_medians": round(medians["everindex"] / medians["bare"], 3),
        "recall_floor": Settings().recall_floor,
        "before": recall_before,
        "meanwhile": meanwhile,
        "after": recall_after,
        "after_vacuum": recall_vacuumed,
        "vacuum_seconds": round(seconds, 1),
    }


@contextmanager
def copy_of(conninfo: str) -> Iterator[str]:
    """A copy of the filled database, dropped afterwards; its pages are on disk and its statistics read."""
    name = sql.Identifier("bench_deleting")
    with psycopg.connect(make_conninfo(conninfo, dbname="postgres"), autocommit=True) as admin:
        source = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(name, source))
        admin.execute("CHECKPOINT")
        copied = make_conninfo(conninfo, dbname="bench_deleting")
        with psycopg.connect(copied, autocommit=True) as reader:  # the tables into memory, for both kinds alike
            for table in ("articles", "raw_articles", "everindex_meta.embedding_record"):
                reader.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*table.split("."))))
        yield copied
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _bare(conninfo: str) -> tuple[float, int]:
    """Seconds and rows of the statements by hand, on a connection that is open."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT 1")
        connection.commit()
        started = time.perf_counter()
        for statement in BARE:
            cursor = connection.execute(statement)
        connection.commit()
        return time.perf_counter() - started, cursor.rowcount


def _ours(conninfo: str) -> tuple[float, int]:
    """The same of `Instance.delete`, on an instance that is open."""
    with connect_instance(conninfo, settings=Settings()) as instance:
        instance.delete(["of no article"])
        return timed(lambda: instance.delete(filters=GONE))


def searched_meanwhile(
    instance: Instance, queries: np.ndarray, gone: set[str], before: Exact, after: Exact, *, clients: int
) -> dict[str, Any]:
    """Searches by so many threads from before the deletion until after it, each answer checked."""
    wrong: Counter[str] = Counter()
    recalls: list[float] = []
    phases: Counter[str] = Counter()
    begun, deleted, done = threading.Event(), threading.Event(), threading.Event()
    kept = threading.Lock()

    def search(client: int) -> None:
        number = client
        while not done.is_set():
            was_deleted, was_begun = deleted.is_set(), begun.is_set()
            query = number % len(queries)
            answer = instance.search_vector(queries[query], k=K)
            likeness = np.array([hit.similarity for hit in answer.hits], dtype=np.float32)
            is_all = not deleted.is_set()
            recall = max(after.recall(query, likeness), before.recall(query, likeness) if not was_deleted else 0.0)
            with kept:
                recalls.append(recall)
                phases["after" if was_deleted else "during" if was_begun or not is_all else "before"] += 1
                wrong.update(faults_of(answer, gone if was_deleted else set()))
            number += clients

    with ThreadPoolExecutor(clients) as pool:
        searching = [pool.submit(search, client) for client in range(clients)]
        time.sleep(2)
        begun.set()
        seconds, rows = timed(lambda: instance.delete(filters=GONE))
        deleted.set()
        time.sleep(2)
        done.set()
        for each in searching:
            each.result()
    return {
        "clients": clients, "deleted": rows, "delete_seconds": round(seconds, 3), "searches": dict(phases),
        "wrong": dict(wrong), "recall_at_10": round(statistics.fmean(recalls), 4), "least_recall": round(min(recalls), 2),
    }  # fmt: skip


def faults_of(answer: Answer, gone: set[str]) -> list[str]:
    """What is wrong with an answer of a search that began when the rows `gone` were deleted."""
    distances = [hit.distance for hit in answer.hits if hit.distance is not None]
    uris = {hit.uri for hit in answer.hits}
    claims = {
        "short": len(distances) == K,
        "out of order": distances == sorted(distances),
        "a row twice": len(uris) == len(answer.hits),
        "a deleted row": not uris & gone,
    }
    return [fault for fault, holds in claims.items() if not holds]


def recall_of(instance: Instance, queries: np.ndarray, truth: Exact) -> dict[str, Any]:
    """Recall, short answers, strategies and time of every query, one after the other."""
    recalls, short, seconds, strategies = [], 0, [], Counter[str]()
    for number, query in enumerate(queries):
        taken, answer = timed(lambda query=query: instance.search_vector(query, k=K))  # type: ignore[misc]
        seconds.append(taken)
        recalls.append(truth.recall(number, np.array([hit.similarity for hit in answer.hits], dtype=np.float32)))
        short += len(answer.hits) < truth.there(number)
        strategies[answer.strategy] += 1
    return {
        "recall_at_10": round(statistics.fmean(recalls), 4), "least_recall": round(min(recalls), 2), "short": short,
        "strategies": dict(strategies),
        "median_ms": round(1000 * statistics.median(seconds), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
