"""The overhead of a search over raw SQL: the same statement, index and settings, measured in alternation in one run."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from everindex.articles.instance import Instance
from everindex.articles.model import Filters
from everindex.articles.search.vector import statement
from everindex.articles.search.vector.strategy import choose
from everindex.errors import NotMigrated
from everindex.index.recall.explain import Settings
from everindex.index.spec import DEFAULT_K
from everindex.pg.connections import Connection, connect
from everindex.pg.vector_type import register_vector


def measure(instance: Instance, *, queries: int, rounds: int) -> dict[str, Any]:
    """Median milliseconds of a search with k = 10: raw psycopg with the settings in the session (the floor), raw
    psycopg with them in a transaction, and `search_vector`. Each round runs the three in turn over the same query
    vectors."""
    vectors = query_vectors(instance, queries)
    table, serving = instance.engine.known()
    search_plan = choose(serving, k=DEFAULT_K, passing=None, ef_search=None, exact=False)
    composed, _ = statement.of(table, Filters(), search_plan, k=DEFAULT_K)
    text = composed.as_string(None)
    with (
        connect(instance.direct_conninfo, application_name="everindex bench") as raw,
        connect(instance.direct_conninfo, application_name="everindex bench") as local,
    ):
        for connection in (raw, local):
            register_vector(connection)
        for name, value in search_plan.settings:
            raw.execute("SELECT set_config(%s, %s, false)", (name, value))
        subjects: dict[str, Callable[[np.ndarray], Any]] = {
            "raw": lambda vector: raw.execute(text, {"vector": vector}, binary=True, prepare=True).fetchall(),
            "raw_local": lambda vector: _pipelined(local, search_plan.settings, text, vector),
            "library": lambda vector: instance.search_vector(vector, k=DEFAULT_K),
        }
        medians = in_turns(subjects, vectors, rounds=rounds)
    return {
        "rows": rows_with_vector(instance),
        "queries": len(vectors),
        "rounds": rounds,
        "strategy": search_plan.strategy,
        "ef_search": search_plan.ef_search,
        **{f"{name}_ms": value for name, value in medians.items()},
        "library_over_raw": medians["library"] / medians["raw"],
    }


def _pipelined(connection: Connection, settings: Settings, text: str, vector: np.ndarray) -> list[tuple[Any, ...]]:
    """The fastest variant with psycopg's own pipeline: settings and statement in one implicit transaction."""
    with connection.pipeline():
        calls = ", ".join(["pg_catalog.set_config(%s, %s, true)"] * len(settings))
        connection.execute(f"SELECT {calls}", [part for setting in settings for part in setting], prepare=True)
        cursor = connection.execute(text, {"vector": vector}, binary=True, prepare=True)
    return cursor.fetchall()


def in_turns(subjects: dict[str, Callable[[Any], Any]], inputs: list[Any], *, rounds: int) -> dict[str, float]:
    """The median milliseconds of each subject over all inputs and rounds. The subjects take turns input by input, so
    that noise on the machine affects them equally, and the order rotates with each turn, since the second one finds
    warm pages."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    names = list(subjects)
    for subject in subjects.values():
        for value in inputs[:20]:
            subject(value)
    for round_number in range(rounds):
        for number, value in enumerate(inputs):
            turn = (number + round_number) % len(names)
            for name in names[turn:] + names[:turn]:
                started = time.perf_counter()
                subjects[name](value)
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) * 1000 for name, values in times.items()}


def query_vectors(instance: Instance, queries: int) -> list[np.ndarray]:
    """Vectors of stored rows, each shifted slightly: near the data but equal to no row. Raises NotMigrated without any rows."""
    with instance.connection() as connection:
        rows = connection.execute(
            "SELECT embedding FROM articles WHERE embedding IS NOT NULL ORDER BY md5(uri) LIMIT %s",
            (queries,),
            binary=True,
        ).fetchall()
    if not rows:
        raise NotMigrated(
            "there is nothing to measure.",
            why="no article has a vector.",
            next_step="run  everindex up --sample  first.",
        )
    noise = np.random.default_rng(7)
    found = []
    for row in rows:
        vector = row[0].to_numpy()
        spread = float(np.linalg.norm(vector)) * 0.1 / np.sqrt(vector.size)
        found.append((vector + noise.standard_normal(vector.size) * spread).astype(np.float32))
    return found


def rows_with_vector(instance: Instance) -> int:
    with instance.connection() as connection:
        row = connection.execute("SELECT count(embedding) FROM articles").fetchone()
    return int(row[0]) if row else 0


def resident_mb() -> float:
    """Current resident memory of this process in MB on Linux; its peak elsewhere."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
