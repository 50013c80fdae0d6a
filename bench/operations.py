"""What monitoring costs: `/metrics` and `/index` during an online build with 8 clients searching, and searches during that build.

    python bench/operations.py [--rows 20000] [--seconds 20] [--json FILE]

Starts an embedded server and the web application on loopback, loads synthetic vectors, and removes everything. The quiet and
the busy figures come from the same run; each is a median.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psycopg

from everindex.articles.connect import connect_instance
from everindex.migrate import runner
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

CLIENTS = 8


def timed(
    url: str, path: str, *, seconds: float, pause: float, stop: Callable[[], bool] = lambda: False
) -> list[float]:
    """Milliseconds of requests to one address."""
    found, ends = [], time.monotonic() + seconds
    with httpx2.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < ends and not stop():
            started = time.perf_counter()
            client.get(path).raise_for_status()
            found.append((time.perf_counter() - started) * 1000)
            time.sleep(pause)
    return found


def searches(url: str, vectors: list[str], *, seconds: float, stop: Callable[[], bool]) -> list[float]:
    """Milliseconds of the searches of CLIENTS clients, each with a pause of 20 ms."""
    found: list[list[float]] = [[] for _ in range(CLIENTS)]

    def search(number: int) -> None:
        with httpx2.Client(base_url=url, timeout=60) as client:
            ends, turn = time.monotonic() + seconds, number
            while time.monotonic() < ends and not stop():
                started = time.perf_counter()
                client.get("/api/search", params={"vector": vectors[turn % len(vectors)]}).raise_for_status()
                found[number].append((time.perf_counter() - started) * 1000)
                turn += CLIENTS
                time.sleep(0.02)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for one in found for each in one]


def together(
    url: str, vectors: list[str], *, seconds: float, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """The three figures, measured at the same time."""
    results: dict[str, list[float]] = {}
    jobs = {
        "search": lambda: searches(url, vectors, seconds=seconds, stop=stop),
        "index_page": lambda: timed(url, "/index", seconds=seconds, pause=0.2, stop=stop),
        "metrics": lambda: timed(url, "/metrics", seconds=seconds, pause=0.2, stop=stop),
    }
    threads = [
        threading.Thread(target=lambda name=name, job=job: results.update({name: job()})) for name, job in jobs.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        name: {
            "requests": len(found),
            "median_ms": round(statistics.median(found), 2),
            "p95_ms": round(statistics.quantiles(found, n=20)[18], 2),
        }
        for name, found in results.items()
        if len(found) > 20
    }


def load(instance: Any, rows: int) -> list[str]:
    """Stores clustered vectors; returns encoded vectors of queries."""
    import base64

    random = np.random.default_rng(7)
    centres = random.normal(size=(200, 1536)).astype(np.float32)
    vectors = centres[random.integers(0, 200, rows)] + 0.5 * random.normal(size=(rows, 1536)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for first in range(0, rows, 2000):
        some = vectors[first : first + 2000]
        articles = [
            {"uri": f"https://bench.example/{first + n}", "title": f"Article {first + n}"} for n in range(len(some))
        ]
        instance.upsert(articles, vectors=some, model="bench")
    picked = random.integers(0, rows, 64)
    return [base64.urlsafe_b64encode(vectors[n].astype("<f4").tobytes()).decode() for n in picked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="of the quiet measurement")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--go", type=Path, help="wait for this file after loading")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="everindex-bench-") as place,
        embedded.running(Path(place) / "pg") as conninfo,
    ):
        runner.upgrade(conninfo)
        settings = Settings(EVERINDEX_PASSAGES="off")
        with connect_instance(conninfo, settings=settings) as instance:
            vectors = load(instance, options.rows)
            with serve_in_thread(instance) as url:
                timed(url, "/metrics", seconds=3, pause=0.2)
                timed(url, "/index", seconds=3, pause=0.2)
                print("loaded", flush=True)
                while options.go is not None and not options.go.exists():
                    time.sleep(0.2)
                quiet = together(url, vectors, seconds=options.seconds)
                ended = threading.Event()
                took: list[float] = []

                def build() -> None:
                    with psycopg.connect(conninfo, autocommit=True) as connection:
                        started = time.monotonic()
                        connection.execute(
                            "CREATE INDEX CONCURRENTLY other ON articles USING hnsw (embedding vector_ip_ops)"
                        )
                        took.append(time.monotonic() - started)
                    ended.set()

                threading.Thread(target=build, daemon=True).start()
                busy = together(url, vectors, seconds=120, stop=ended.is_set)
                ended.wait(300)
    document = {
        "rows": options.rows,
        "clients": CLIENTS,
        "build_seconds": round(took[0], 1),
        "quiet": quiet,
        "during_build": busy,
        "search_ratio": round(busy["search"]["median_ms"] / quiet["search"]["median_ms"], 2),
    }
    print(json.dumps(document, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
