"""The cost of expiry to a search: where no article has ever had a moment, where some have, and where some have expired."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import psycopg
from article_corpus import corpus_arguments, corpus_of, instance_with, near
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from turns import summary, timed, turns

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

K = 10
#: Articles that have a moment.
SET = 100
PAST, FUTURE = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
#: State → the moment of SET articles.
STATES = {"never used": None, "100 will expire": FUTURE, "100 have expired": PAST}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser, rows=10_000)
    parser.add_argument("--searches", type=int, default=1000, help="queries that are timed in each state")
    options = parser.parse_args()
    load, started = os.getloadavg()[0], time.monotonic()
    corpus = corpus_of(options)
    uris = [row["uri"] for row in corpus.rows[:: len(corpus.rows) // SET]][:SET]
    queries = near(corpus.vectors, min(options.searches, len(corpus.rows)))
    with instance_with(corpus, options.home):
        pass
    with embedded.running(options.home / "server") as conninfo, ExitStack() as opened:
        instances = {
            state: opened.enter_context(copy_of(conninfo, f"bench_expiry_{number}"))
            for number, state in enumerate(STATES)
        }
        for state, moment in STATES.items():
            if moment is not None:
                instances[state].set_expiry(uris, expires_at=moment)
        found = measure(instances, queries, gone=set(uris))
    print(
        json.dumps(
            {
                "cores": os.cpu_count(), "load_before": round(load, 1), "rows": len(corpus.rows), "k": K,
                "searches": len(queries), "states": found, "seconds": round(time.monotonic() - started),
            },
            indent=1,
        )
    )  # fmt: skip


@contextmanager
def copy_of(conninfo: str, name: str) -> Iterator[Instance]:
    """An open instance on a copy of the filled database."""
    with psycopg.connect(make_conninfo(conninfo, dbname="postgres"), autocommit=True) as admin:
        source = sql.Identifier(str(conninfo_to_dict(conninfo)["dbname"]))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source))
        with connect_instance(make_conninfo(conninfo, dbname=name), settings=Settings()) as instance:
            yield instance
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def measure(instances: dict[str, Instance], queries: np.ndarray, *, gone: set[str]) -> dict[str, Any]:
    """The time of each query in each state, by turns, and whether an expired article was among the hits."""
    seconds: dict[str, list[float]] = {state: [] for state in instances}
    wrong = 0
    for instance in instances.values():  # what is composed and read once
        for query in queries[:20]:
            instance.search_vector(query, k=K)
    for number, state in turns(tuple(instances), len(queries)):
        taken, answer = timed(lambda state=state, number=number: instances[state].search_vector(queries[number], k=K))  # type: ignore[misc]
        seconds[state].append(taken)
        wrong += len(answer.hits) != K or (STATES[state] == PAST and any(hit.uri in gone for hit in answer.hits))
    medians = {state: float(np.median(each)) for state, each in seconds.items()}
    return {
        state: {**summary(each), "ratio_of_medians": round(medians[state] / medians["never used"], 3)}
        for state, each in seconds.items()
    } | {"wrong": wrong}


if __name__ == "__main__":
    main()
