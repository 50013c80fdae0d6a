"""The searches per second over HTTP against those in process: eight clients, in slices that take turns."""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from article_corpus import corpus_arguments, corpus_of, instance_with, near
from turns import turns

from everindex.articles.instance import Instance

K = 10
TEXTS = (
    "memory leak in the parser",
    "deadlock when a thread is forked",
    "wrong timezone in datetime",
    "crash on Windows",
    "documentation of the new syntax",
    "performance regression in the compiler",
)
#: What is asked of HTTP and of the library, and compared.
PAIRS = {"http_vector": "vector", "http_text": "text", "http_hybrid": "hybrid"}

Ask = Callable[[int], Any]


@dataclass(slots=True)
class Load:
    """The searches of one way, over all its slices."""

    seconds: list[float] = field(default_factory=list)
    searches_a_second: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        median, p99 = statistics.median(self.seconds), float(np.percentile(self.seconds, 99))
        return {
            "searches": len(self.seconds),
            "searches_a_second": round(statistics.median(self.searches_a_second), 1),
            "median_ms": round(median * 1000, 2),
            "p99_ms": round(p99 * 1000, 2),
            "p99_over_median": round(p99 / median, 2),
            "longest_ms": round(max(self.seconds) * 1000, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    corpus_arguments(parser)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a slice")
    parser.add_argument("--slices", type=int, default=5, help="slices of each way")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    corpus = corpus_of(options)
    queries = near(corpus.vectors, min(500, len(corpus.rows)))
    with instance_with(corpus, options.home) as instance, served(instance.conninfo) as (address, pid):
        by_vector = [request_for({"vector": encoded(query), "k": K}) for query in queries]
        by_text = [request_for({"q": text, "k": K, "mode": "semantic"}) for text in TEXTS]
        hybrid = [request_for({"q": text, "k": K, "mode": "hybrid"}) for text in TEXTS]
        ways: dict[str, Callable[[ExitStack], Ask]] = {
            "vector": lambda _: lambda number: instance.search_vector(queries[number % len(queries)], k=K),
            "http_vector": lambda stack: _client(stack, address, by_vector),
            "text": lambda _: lambda number: instance.search(TEXTS[number % len(TEXTS)], k=K, mode="semantic"),
            "http_text": lambda stack: _client(stack, address, by_text),
            "hybrid": lambda _: lambda number: instance.search(TEXTS[number % len(TEXTS)], k=K, mode="hybrid"),
            "http_hybrid": lambda stack: _client(stack, address, hybrid),
        }
        in_memory(instance, ways["http_hybrid"])
        found = {name: Load() for name in ways}
        for way in ways.values():
            burst(way, Load(), clients=options.clients, seconds=min(1.0, options.seconds))
        for _, name in turns(list(ways), options.slices):
            burst(ways[name], found[name], clients=options.clients, seconds=options.seconds)
        memory = resident_mb(pid)
    summaries = {name: way.summary() for name, way in found.items()}
    result = {
        "cores": os.cpu_count(),
        "load_before": round(load, 1),
        "rows": len(corpus.rows),
        "clients": options.clients,
        "slices": options.slices,
        "slice_seconds": options.seconds,
        "ways": summaries,
        "http_over_in_process": {
            name: round(summaries[name]["searches_a_second"] / summaries[direct]["searches_a_second"], 3)
            for name, direct in PAIRS.items()
        },
        "server_resident_mb": memory,
    }
    print(json.dumps(result, indent=1))


def in_memory(instance: Instance, over_http: Callable[[ExitStack], Ask]) -> None:
    """Waits until both processes have the words of all rows in memory: the library's says so, and the server, which began
    earlier, is given as long again."""
    started = time.perf_counter()
    while instance.words.rows.postings is None:
        instance.search(TEXTS[0], k=K)
        time.sleep(0.1)
    end = 2 * time.perf_counter() - started
    with ExitStack() as stack:
        ask = over_http(stack)
        while time.perf_counter() < end:
            ask(0)
            time.sleep(0.1)


def burst(way: Callable[[ExitStack], Ask], load: Load, *, clients: int, seconds: float) -> None:
    """One slice: every client asks, one search after the other, until the time is over."""
    ready = threading.Barrier(clients + 1)
    taken: list[list[float]] = [[] for _ in range(clients)]
    failed: list[BaseException] = []

    def ask(client: int) -> None:
        try:
            with ExitStack() as stack:
                search = way(stack)
                search(client)
                ready.wait(timeout=60)
                end = time.perf_counter() + seconds
                number = client
                while (started := time.perf_counter()) < end:
                    search(number)
                    taken[client].append(time.perf_counter() - started)
                    number += clients
        except BaseException as exc:
            failed.append(exc)
            ready.abort()

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):  # a client that could not start tells why, below
        ready.wait(timeout=60)
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    # Until the last answer: a slow one at the end must not look like speed.
    took = max(seconds, time.perf_counter() - started)
    load.seconds += [one for client in taken for one in client]
    load.searches_a_second.append(sum(map(len, taken)) / took)


def encoded(vector: np.ndarray) -> str:
    return base64.urlsafe_b64encode(vector.astype("<f4").tobytes()).decode()


def request_for(query: dict[str, Any]) -> bytes:
    return f"GET /api/search?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _client(stack: ExitStack, address: tuple[str, int], requests: list[bytes]) -> Ask:
    """A kept connection that writes a ready request and reads the whole answer. It is meant to cost next to nothing."""
    connection = stack.enter_context(socket.create_connection(address, timeout=30))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(number: int) -> bytes:
        connection.sendall(requests[number % len(requests)])
        content = connection.recv(65536)
        while (head := content.find(b"\r\n\r\n")) < 0:
            content += _more(connection)
        lines = content[:head].lower().split(b"\r\n")
        if b" 200 " not in lines[0]:
            raise RuntimeError(content[:500].decode(errors="replace"))
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        while len(content) < head + 4 + length:
            content += _more(connection)
        return content[head + 4 :]

    return ask


def _more(connection: socket.socket) -> bytes:
    content = connection.recv(65536)
    if not content:
        raise RuntimeError("the server closed a connection in the middle of an answer")
    return content


@contextmanager
def served(conninfo: str) -> Iterator[tuple[tuple[str, int], int]]:
    """`everindex serve` on a free port: its address and its process id."""
    command = [str(Path(sys.executable).with_name("everindex")), "serve", "--port", "0"]
    environment = os.environ | {
        "DATABASE_URL": conninfo,
        "EVERINDEX_KEEP": "off",
        "EVERINDEX_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http"))
        parts = urllib.parse.urlsplit(url)
        yield (parts.hostname or "127.0.0.1", parts.port or 80), process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process (Linux), megabytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    main()
