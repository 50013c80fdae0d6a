"""The isolation of concurrent searches: thousands at once, of every kind, each answer checked."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from article_corpus import corpus_arguments, corpus_of, instance_with, near
from conditions import Condition, filtered, no_match, unfiltered
from turns import summary, timed

from everindex.articles.instance import Instance
from everindex.articles.model import Answer
from everindex.errors import EverindexError
from everindex.pg.connections import Connection

#: How often each is drawn.
KS = {1: 2, 10: 12, 50: 3, 100: 2, 300: 1}
BEAMS = {None: 10, 10: 2, 40: 3, 120: 3, 400: 1, 1000: 1}
EXACT_SHARE = 0.02
#: After so many searches a client looks at the settings of a connection of the pool.
LOOK_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One search: query number, k, ef_search, filter, exact."""

    query: int
    k: int
    ef_search: int | None
    condition: Condition
    exact: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    corpus = corpus_of(options)
    queries = near(corpus.vectors, min(500, len(corpus.rows)))
    conditions = [unfiltered(corpus), *filtered(corpus), no_match(corpus)]
    with instance_with(corpus, options.home) as instance:
        found = run(instance, queries, cases(conditions, options.searches, len(queries)), clients=options.clients)
    print(
        json.dumps(
            {"cores": os.cpu_count(), "load_before": round(load, 1), "rows": len(corpus.rows), **found}, indent=1
        )
    )
    if found["wrong"] or found["leaked_settings"] or found["errors"]:
        sys.exit(1)


def cases(conditions: list[Condition], searches: int, queries: int, *, seed: int = 3) -> list[Case]:
    """As many searches, drawn; every other one has no filter."""
    drawn = random.Random(seed)
    weights = [len(conditions) - 1, *[1] * (len(conditions) - 1)]
    return [
        Case(
            query=drawn.randrange(queries),
            k=drawn.choices(list(KS), list(KS.values()))[0],
            ef_search=drawn.choices(list(BEAMS), list(BEAMS.values()))[0],
            condition=drawn.choices(conditions, weights)[0],
            exact=drawn.random() < EXACT_SHARE,
        )
        for _ in range(searches)
    ]


def run(instance: Instance, queries: np.ndarray, asked: list[Case], *, clients: int) -> dict[str, Any]:
    """All searches, by so many threads."""
    with instance.connection() as connection:
        before = settings_of(connection)
    wrong: Counter[str] = Counter()
    leaked: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    strategies: Counter[str] = Counter()
    seconds: list[float] = []
    kept = threading.Lock()

    def one(number: int) -> None:
        case = asked[number]
        try:
            taken, answer = timed(
                lambda: instance.search_vector(
                    queries[case.query],
                    k=case.k,
                    filters=case.condition.only,
                    ef_search=case.ef_search,
                    exact=case.exact,
                )
            )
            faults = faults_of(answer, case)
            changed = []
            if number % LOOK_EVERY == 0:
                with instance.connection() as connection:
                    changed = differences(before, settings_of(connection))
        except EverindexError as exc:
            with kept:
                errors[exc.slug] += 1
            return
        with kept:
            seconds.append(taken)
            strategies[answer.strategy] += 1
            wrong.update(faults)
            leaked.update(changed)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for _ in pool.map(one, range(len(asked))):
            pass
    took = time.perf_counter() - started
    looked_at = 0
    with ExitStack() as borrowed:
        # All at once, so that none is handed out twice.
        for _ in range(instance.settings.pool_size):
            leaked.update(differences(before, settings_of(borrowed.enter_context(instance.connection()))))
            looked_at += 1
    return {
        "searches": len(asked),
        "clients": clients,
        "connections": looked_at,
        "seconds": round(took, 1),
        "searches_a_second": round(len(asked) / took, 1),
        **summary(seconds),
        "strategies": dict(strategies),
        "wrong": dict(wrong),
        "leaked_settings": dict(leaked),
        "errors": dict(errors),
    }


def faults_of(answer: Answer, case: Case) -> list[str]:
    """What is wrong with an answer, in words; nothing where it is right."""
    distances = [hit.distance for hit in answer.hits if hit.distance is not None]
    expected = min(case.k, int(case.condition.passing.sum()))
    claims = {
        "a row without a distance": len(distances) == len(answer.hits),
        "out of order": distances == sorted(distances),
        "a row twice": len({hit.uri for hit in answer.hits}) == len(answer.hits),
        f"not k rows ({answer.strategy})": len(answer.hits) == expected,
        "a row that does not pass": all(
            getattr(hit, column) == value for hit in answer.hits for column, value in case.condition.only.items()
        ),
    }
    return [fault for fault, holds in claims.items() if not holds]


def settings_of(connection: Connection) -> dict[str, str]:
    """Every setting of this session."""
    connection.execute("SELECT '[1]'::vector")  # loads the library, which declares its settings
    return dict(connection.execute("SELECT name, setting FROM pg_catalog.pg_settings").fetchall())


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]


if __name__ == "__main__":
    main()
