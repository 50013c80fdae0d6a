"""The time that a writer waits while an index is built by deploy, CREATE INDEX CONCURRENTLY or CREATE INDEX."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from everindex.index.deploy.executor import deploy
from everindex.index.spec import IndexSpec
from everindex.pg.embedded import running as embedded

SPEC = IndexSpec(name="items_embedding_idx", table="items", column="embedding")
#: What the same index is called in SQL by hand.
BY_HAND = "items_embedding_idx ON items USING hnsw (embedding vector_cosine_ops)"
WRITES_A_SECOND = 50
#: The writer alone, before anything is built, seconds.
QUIET_SECONDS = 10.0
#: Of the writer's own rows; those of the table lie below.
FIRST_WRITTEN = 10_000_000
FORGET_WRITTEN = "DELETE FROM items WHERE id >= 10000000"
AIM_MS = 250


def vectors_of(count: int, dimensions: int, seed: int) -> np.ndarray:
    """(count, dimensions) float32 in 200 clusters, as texts about the same things lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).normal(size=(200, dimensions)).astype(np.float32)
    return centres[random.integers(200, size=count)] + 0.35 * random.normal(size=(count, dimensions)).astype(np.float32)


def fill(conninfo: str, rows: int, dimensions: int) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        register_vector(connection)
        connection.execute(
            f"CREATE TABLE items (id int PRIMARY KEY, n int DEFAULT 0, embedding vector({int(dimensions)}))"
        )
        with connection.cursor().copy("COPY items (id, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "vector"])
            for start in range(0, rows, 1000):
                block = vectors_of(min(1000, rows - start), dimensions, seed=start)
                for number, vector in enumerate(block, start=start):
                    copy.write_row([number, vector])
        connection.execute("VACUUM ANALYZE items")


def write(conninfo: str, rows: int, dimensions: int, all_ready: Barrier, is_over: Event, told: Queue[Any]) -> None:
    """50 writes a second until told to stop; tells (seconds of each, failed ones)."""
    vectors = vectors_of(1000, dimensions, seed=2)
    seconds, failed = [], 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        register_vector(connection)
        first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM items").fetchone()
        assert first is not None
        begin = max(FIRST_WRITTEN, first[0])
        number = 0
        all_ready.wait()
        due = time.monotonic()
        while not is_over.is_set():
            vector = vectors[number % 1000]
            started = time.perf_counter()
            try:
                if number % 2:
                    connection.execute("UPDATE items SET embedding = %s WHERE id = %s", (vector, number * 7 % rows))
                else:
                    connection.execute("INSERT INTO items (id, embedding) VALUES (%s, %s)", (begin + number, vector))
            except psycopg.Error:
                failed += 1
            seconds.append(time.perf_counter() - started)
            number += 1
            due = max(due + 1 / WRITES_A_SECOND, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
    told.put((seconds, failed))


def read(conninfo: str, dimensions: int, all_ready: Barrier, is_over: Event, told: Queue[Any]) -> None:
    """One search after the other with a pause; an exact one while there is no index. Tells (seconds of each, failed)."""
    vectors = vectors_of(1000, dimensions, seed=3)
    seconds, failed, number = [], 0, 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        register_vector(connection)
        all_ready.wait()
        while not is_over.is_set():
            started = time.perf_counter()
            try:
                connection.execute(
                    "SELECT id FROM items WHERE id < 2000 ORDER BY embedding <=> %s LIMIT 10", (vectors[number % 1000],)
                ).fetchall()
            except psycopg.Error:
                failed += 1
            seconds.append(time.perf_counter() - started)
            number += 1
            is_over.wait(0.1)
    told.put((seconds, failed))


def beside(conninfo: str, rows: int, dimensions: int, work: Callable[[], object]) -> dict[str, Any]:
    """Does the work while a writer and a reader go on; what they met."""
    context = multiprocessing.get_context("spawn")
    all_ready, is_over = context.Barrier(3), context.Event()
    writes: Queue[Any] = context.Queue()  # type: ignore[assignment]
    reads: Queue[Any] = context.Queue()  # type: ignore[assignment]
    processes = [
        context.Process(target=write, args=(conninfo, rows, dimensions, all_ready, is_over, writes)),
        context.Process(target=read, args=(conninfo, dimensions, all_ready, is_over, reads)),
    ]
    for process in processes:
        process.start()
    all_ready.wait(timeout=120)
    time.sleep(1.0)  # both are at work by then
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    is_over.set()
    written, failed_writes = writes.get(timeout=600)
    found, failed_reads = reads.get(timeout=600)
    for process in processes:
        process.join()
    return {
        "seconds": round(seconds, 1),
        "writes": len(written),
        "failed_writes": failed_writes,
        "longest_write_ms": round(max(written) * 1000, 1),
        "p99_write_ms": round(float(np.percentile(written, 99)) * 1000, 1),
        "median_write_ms": round(statistics.median(written) * 1000, 2),
        "failed_reads": failed_reads,
        "longest_read_ms": round(max(found) * 1000, 1),
    }


def execute(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def measure(conninfo: str, rows: int, dimensions: int) -> dict[str, Any]:
    """One run: the writer alone, then each way to build, from the same table. SQL by hand gets the memory it needs."""
    by_hand = "SET maintenance_work_mem = '1GB'"
    ways: dict[str, Callable[[], object]] = {
        "nothing_built": lambda: time.sleep(QUIET_SECONDS),
        "deploy": lambda: deploy(conninfo, SPEC),
        "create_index_concurrently": lambda: execute(conninfo, by_hand, f"CREATE INDEX CONCURRENTLY {BY_HAND}"),
        "create_index": lambda: execute(conninfo, by_hand, f"CREATE INDEX {BY_HAND}"),
    }
    found = {}
    for name, work in ways.items():
        load = os.getloadavg()[0]
        found[name] = {**beside(conninfo, rows, dimensions, work), "load_before": round(load, 1)}
        print(f"{name}: {found[name]}", file=sys.stderr)
        execute(conninfo, f"DROP INDEX IF EXISTS {SPEC.name}", FORGET_WRITTEN)
        execute(conninfo, "VACUUM ANALYZE items", "CHECKPOINT")
    return found


def main() -> None:
    runs, rows, dimensions = [int(given) for given in sys.argv[1:]] + [3, 30_000, 1536][len(sys.argv) - 1 :]
    with tempfile.TemporaryDirectory(prefix="everindex-bench-") as folder:
        Path(folder).chmod(0o755)
        with embedded.running(Path(folder) / "server") as conninfo:
            fill(conninfo, rows, dimensions)
            results = [measure(conninfo, rows, dimensions) for _ in range(runs)]
    print(
        json.dumps(
            {
                "cores": os.cpu_count(),
                "rows": rows,
                "dimensions": dimensions,
                "aim_longest_write_ms": AIM_MS,
                "median_of_longest_write_ms": {
                    name: statistics.median(result[name]["longest_write_ms"] for result in results)
                    for name in results[0]
                },
                "failed_writes": {
                    name: sum(result[name]["failed_writes"] for result in results) for name in results[0]
                },
                "runs": results,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
