"""Eight asyncio tasks against eight threads: searches per second of one process, and how long the loop stands still.

Both search the same database with eight connections; a third way, threads that asyncio starts (`asyncio.to_thread`), shows what
an asynchronous API without an event loop of its own would cost. They run in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from turns import turns

import everindex
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.migrate import runner
from everindex.migrate.chain import BEFORE_INDEX
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings

CLIENTS = 8
WAYS = ("threads", "tasks", "asyncio.to_thread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where the server lies; filled once, then used again")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--searches", type=int, default=400, help="of one way in one turn")
    options = parser.parse_args()
    settings = Settings(EVERINDEX_POOL_SIZE=CLIENTS, EVERINDEX_LOG_LEVEL="WARNING")
    logging.getLogger("everindex").setLevel(logging.ERROR)
    options.home.mkdir(parents=True, exist_ok=True)
    options.home.chmod(0o755)
    with embedded.running(options.home / "server") as conninfo:
        runner.upgrade(conninfo, BEFORE_INDEX, wait_seconds=0)
        with everindex.connect(conninfo, settings=settings) as instance:
            rows = instance.import_rows(read_source(str(sample_source()))).rows
            runner.upgrade(conninfo, wait_seconds=0)
            titles = (article.title for article in read_source(str(sample_source())))
            texts = list(itertools.islice(filter(None, titles), 200))
            vectors = np.stack([instance.embed_query(text) for text in texts])
            found = asyncio.run(
                measured(instance, vectors, texts, settings, count=options.turns, searches=options.searches)
            )
    print(json.dumps({"rows": rows, "clients": CLIENTS} | found, indent=2))


async def measured(
    instance: Instance, vectors: np.ndarray, texts: list[str], settings: Settings, *, count: int, searches: int
) -> dict[str, Any]:
    async with everindex.connect_async(instance.conninfo, settings=settings) as on_loop:
        found = {}
        for kind, plain, awaitable in (
            (
                "search_vector",
                lambda number: instance.search_vector(vectors[number % len(vectors)]),
                lambda number: on_loop.search_vector(vectors[number % len(vectors)]),
            ),
            (
                "hybrid",
                lambda number: instance.search(texts[number % len(texts)]),
                lambda number: on_loop.search(texts[number % len(texts)]),
            ),
        ):
            found[kind] = await compared(plain, awaitable, count=count, searches=searches)
            found[kind]["loop"] = await stand_still(awaitable)
        return found


async def compared(
    plain: Callable[[int], Any], awaitable: Callable[[int], Awaitable[Any]], *, count: int, searches: int
) -> dict[str, Any]:
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with ThreadPoolExecutor(CLIENTS) as threads:

        def with_threads() -> None:
            list(threads.map(plain, range(searches)))

        async def with_tasks(search: Callable[[int], Awaitable[Any]]) -> None:
            numbers = iter(range(searches))

            async def client() -> None:
                for number in numbers:
                    await search(number)

            await asyncio.gather(*(client() for _ in range(CLIENTS)))

        for turn, way in turns(WAYS, count + 1):
            started = time.perf_counter()
            match way:
                case "threads":
                    await asyncio.to_thread(with_threads)
                case "tasks":
                    await with_tasks(awaitable)
                case _:
                    await with_tasks(lambda number: asyncio.to_thread(plain, number))
            if turn:  # the first one warms up
                rates[way].append(searches / (time.perf_counter() - started))
        print(f"{ {way: round(statistics.median(rates[way])) for way in WAYS} }", file=sys.stderr)
    ratios = [tasks / with_them for tasks, with_them in zip(rates["tasks"], rates["threads"], strict=True)]
    return {
        "searches_per_second": {way: round(statistics.median(rates[way]), 1) for way in WAYS},
        "tasks_over_threads": {
            "median": round(statistics.median(ratios), 3), "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3),
        },
    }  # fmt: skip


async def stand_still(search: Callable[[int], Awaitable[Any]], *, searches: int = 300) -> dict[str, float]:
    """Milliseconds for which one search after the other keeps the loop from anything else: by the clock, and computing."""
    wall, computing = [0.0], [0.0]
    is_done = False

    async def beat() -> None:
        while not is_done:
            at, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0)
            wall.append(time.perf_counter() - at)
            computing.append(time.thread_time() - used)

    heart = asyncio.create_task(beat())
    for number in range(searches):
        await search(number)
    is_done = True
    await heart
    return {
        "longest_ms": round(max(wall) * 1000, 2),
        "p999_ms": round(float(np.percentile(wall, 99.9)) * 1000, 2),
        "longest_computing_ms": round(max(computing) * 1000, 2),
    }


if __name__ == "__main__":
    main()
