"""The growth of build time, size and search time with the rows: 10,000, 100,000 and 500,000 rows of 1536 dimensions."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from article_corpus import COLUMNS, Corpus, near, write_rows
from corpus import Vectors, made_between, neighbours_of, sample_vectors
from exact import Exact, unit
from turns import summary, timed, turns

from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.index.build.footprint import graph_bytes, index_bytes
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.index.spec import IndexSpec
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.connections import Connection, connect
from everindex.pg.embedded import running as embedded
from everindex.pg.vector_type import register_vector
from everindex.settings import Settings

K = 10
PART = 10_000
SMALL = 10_000
DIMENSIONS = 1536
FURTHER = (10_000_000, 100_000_000)
OPCLASSES = {"vector": "vector_cosine_ops", "halfvec": "halfvec_cosine_ops", "bit": "bit_hamming_ops"}


class Parts:
    """The corpus in parts of PART rows; the same part is the same wherever a run begins."""

    def __init__(self) -> None:
        self._articles = list(read_source(str(sample_source())))
        sample = sample_vectors(DIMENSIONS)
        self._known = np.flatnonzero(np.linalg.norm(sample, axis=1) > 0)
        self.real = sample[self._known]
        self._neighbours = neighbours_of(self.real)

    def vectors(self, number: int) -> tuple[Vectors, np.ndarray]:
        """(PART, DIMENSIONS) float32, and the article of the sample that each row comes from. The first begins with it."""
        random = np.random.default_rng((1, number))
        if number:
            made, origin = made_between(self.real, self._neighbours, PART, random)
            return made, self._known[origin]
        real = self.real[:PART]
        made, origin = made_between(self.real, self._neighbours, PART - len(real), random)
        return np.concatenate([real, made]), np.concatenate([self._known[: len(real)], self._known[origin]])

    def corpus(self, number: int) -> Corpus:
        vectors, origins = self.vectors(number)
        rows = []
        for place, origin in enumerate(origins):
            article = self._articles[origin]
            values = {column: getattr(article, column) for column in COLUMNS}
            rows.append({**values, "uri": f"bench:{number * PART + place}"})
        return Corpus(vectors=vectors, rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, required=True, help="where server and results lie; gone on with if there")
    parser.add_argument("--type", choices=list(OPCLASSES), default="halfvec", help="type of what is indexed")
    parser.add_argument("--steps", default="10000,100000,500000", help=f"rows, in multiples of {PART}")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    steps = sorted({int(step) for step in options.steps.split(",")})
    if any(step % PART or step <= 0 for step in steps):
        parser.error(f"rows come in multiples of {PART}")
    spec = replace(EMBEDDING_INDEX, opclass=OPCLASSES[options.type])
    kept = options.home / "scale.json"
    options.home.mkdir(parents=True, exist_ok=True)
    options.home.chmod(0o755)
    done: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    parts = Parts()
    queries = near(parts.real, options.queries)
    with (
        embedded.running(options.home / "server", database="large") as large,
        embedded.running(options.home / "server", database="small") as small,
    ):
        prepare(small, parts, rows=min(SMALL, steps[0]), spec=spec)
        for rows in steps:
            name = f"{options.type} {rows}"
            if name in done:
                continue
            load = os.getloadavg()[0]
            built = prepare(large, parts, rows=rows, spec=spec)
            found = search(large, small, parts, queries, rows=rows, rounds=options.rounds)
            done[name] = {"type": options.type, "rows": rows, "load_before": round(load, 1), **built, **found}
            kept.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            say(json.dumps(done[name]))
    measured = [done[f"{options.type} {rows}"] for rows in steps]
    print(json.dumps({"cores": os.cpu_count(), "steps": measured, **outlook(options.type, measured)}, indent=1))


def prepare(conninfo: str, parts: Parts, *, rows: int, spec: IndexSpec) -> dict[str, Any]:
    """Brings the table to `rows` and builds the index anew; what that took. Rows that are there stay."""
    runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
    with connect(conninfo) as connection:
        there = one(connection, "SELECT count(*) FROM articles")
    if there > rows:
        raise SystemExit(f"there are {there} rows already, more than {rows}: choose another --home")
    stored = 0.0
    if there < rows:
        drop(conninfo, spec)
        with connect(conninfo) as connection:
            register_vector(connection)
            for number in range(there // PART, math.ceil(rows / PART)):
                corpus = parts.corpus(number)
                # A part goes in whole or not at all: what is there is a number of parts.
                took, _ = timed(lambda: write_rows(connection, corpus))  # noqa: B023
                stored += took
            connection.execute("VACUUM ANALYZE articles")
    drop(conninfo, spec)
    started = time.monotonic()
    deploy(conninfo, spec)
    built = time.monotonic() - started
    with connect(conninfo) as connection:
        connection.execute("CHECKPOINT")
        table = one(connection, "SELECT pg_catalog.pg_table_size('articles')")
        index = one(connection, "SELECT pg_catalog.pg_relation_size(%s::regclass)", (spec.name,))
    return {
        "build_seconds": round(built, 1),
        "build_us_a_row": round(built / rows * 1e6, 1),
        "copy_us_a_row": round(stored / (rows - there) * 1e6, 1) if rows > there else None,
        "table_bytes_a_row": round(table / rows),
        "index_bytes_a_row": round(index / rows),
        "index_mb": round(index / 1e6, 1),
    }


def search(large: str, small: str, parts: Parts, queries: Vectors, *, rows: int, rounds: int) -> dict[str, Any]:
    """The searches of both databases in turns, and the recall of the large one."""
    truth = Exact(queries, k=K)
    for number in range(rows // PART):
        truth.add(parts.vectors(number)[0])
    with opened(large) as big, opened(small) as little:
        instances = {"large": big, "small": little}
        answers = [big.search_vector(query, k=K) for query in queries]
        with big.connection() as connection:
            recalls = [
                truth.recall(number, likeness(connection, [hit.uri for hit in answer.hits], queries[number]))
                for number, answer in enumerate(answers)
            ]
        for query in queries:
            little.search_vector(query, k=K)
        times: dict[str, list[float]] = {name: [] for name in instances}
        for turn, name in turns(list(instances), rounds * len(queries)):
            query = queries[turn % len(queries)]
            taken, _ = timed(lambda: instances[name].search_vector(query, k=K))  # noqa: B023
            times[name].append(taken)
    found = {name: summary(taken) for name, taken in times.items()}
    return {
        "search": found["large"],
        "search_of_small_in_turns": found["small"],
        "median_over_small": round(found["large"]["median_ms"] / found["small"]["median_ms"], 2),
        "recall_at_10": round(statistics.fmean(recalls), 4),
        "strategy": answers[-1].strategy,
        "ef_search": answers[-1].ef_search,
    }


@contextmanager
def opened(conninfo: str) -> Iterator[Instance]:
    with connect_instance(conninfo, settings=Settings()) as instance:
        yield instance


def likeness(connection: Connection, uris: list[str], query: np.ndarray) -> np.ndarray:
    """True similarities of what was found: an index of a smaller type may know them only roughly."""
    found = connection.execute("SELECT embedding FROM articles WHERE uri = ANY(%s)", (uris,), binary=True).fetchall()
    return np.asarray(unit(np.stack([row[0].to_numpy() for row in found])) @ unit(query), dtype=np.float32)


def outlook(key_type: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What more rows would take on this machine, were there memory enough: sizes grow with the rows, the time to insert
    one row or to search with their logarithm."""
    last = steps[-1]
    further = []
    for rows in FURTHER:
        seconds_a_row = _at(rows, steps, "build_us_a_row") / 1e6
        further.append(
            {
                "rows": rows,
                "table_gb": round(rows * last["table_bytes_a_row"] / 1e9, 1),
                "index_gb": round(rows * last["index_bytes_a_row"] / 1e9, 1),
                "build_hours": round(rows * seconds_a_row / 3600, 1),
                "build_memory_gb": round(
                    graph_bytes(rows=rows, dimensions=DIMENSIONS, m=EMBEDDING_INDEX.m, key_type=key_type) / 1e9, 1
                ),
                "search_median_ms_in_memory": round(
                    _at(rows, [{"rows": step["rows"], **step["search"]} for step in steps], "median_ms"), 2
                ),
                "index_gb_of_other_types": {
                    kind: round(
                        index_bytes(rows=rows, dimensions=DIMENSIONS, m=EMBEDDING_INDEX.m, key_type=kind) / 1e9, 1
                    )
                    for kind in OPCLASSES
                },
            }
        )
    return {
        "median_last_over_first": round(last["median_over_small"] / steps[0]["median_over_small"], 2),
        "outlook": further,
    }


def _at(rows: int, steps: list[dict[str, Any]], name: str) -> float:
    """The value at so many rows, on the line a + b · log(rows) through the steps; never below the last step."""
    if len(steps) == 1:
        return float(steps[0][name])
    b, a = np.polyfit([math.log(step["rows"]) for step in steps], [step[name] for step in steps], 1)
    return max(float(a + b * math.log(rows)), float(steps[-1][name]))


def one(connection: Connection, text: str, parameters: tuple[Any, ...] = ()) -> int:
    row = connection.execute(text, parameters).fetchone()
    assert row is not None
    return int(row[0])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
