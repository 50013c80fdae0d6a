"""A server process of its own under attack, and what its probe takes meanwhile, asked on a new connection each time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import warm

PROGRAM = """
import sys, everindex
from everindex.articles.connect import connect_instance
from everindex.cli.serve import serve_instance
from everindex.settings import Settings
settings = Settings()
with connect_instance(sys.argv[1], settings=settings) as instance:
    serve_instance(instance, settings, host="127.0.0.1", port=0)
"""


PROBE = """
import json, select, socket, sys, time
address, seconds, failures = (sys.argv[1], int(sys.argv[2])), [], []
while True:
    started = time.perf_counter()
    try:
        with socket.create_connection(address, timeout=20) as opened:
            opened.sendall(b"GET /livez HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n")
            content = opened.recv(65536)
        if b" 200 " not in content[:20]:
            failures.append(repr(content[:60]))
    except OSError as exc:
        failures.append(repr(exc))
    seconds.append(time.perf_counter() - started)
    if len(seconds) == 1:
        print(flush=True)
    if select.select([sys.stdin], [], [], 0.01)[0]:
        break
print(json.dumps([seconds, failures]))
"""


@contextmanager
def server_process(conninfo: str, **environment: str) -> Iterator[tuple[tuple[str, int], int]]:
    """`everindex serve` on a free port: its address and its process id."""
    env = {**os.environ, "EVERINDEX_KEEP": "off", "EVERINDEX_WARM_SECONDS": "0", **environment}
    # Nobody reads what it logs: into a pipe, slow searches would fill it and stop the server.
    with open(os.devnull, "wb") as nothing, warm.Process(["-c", PROGRAM, conninfo], env=env, stderr=nothing) as process:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        parts = urlsplit(url)
        try:
            yield (str(parts.hostname), int(parts.port or 0)), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def connected(address: tuple[str, int], request: bytes = b"", *, timeout: float = 60.0) -> socket.socket:
    """A connection that has sent `request` and read nothing."""
    opened = socket.create_connection(address, timeout=timeout)
    opened.sendall(request)
    return opened


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()


def answer_to(address: tuple[str, int], request: bytes, *, timeout: float = 60.0) -> bytes:
    """All that comes until the server closes."""
    with connected(address, request, timeout=timeout) as opened:
        return rest_of(opened)


def rest_of(opened: socket.socket) -> bytes:
    content = bytearray()
    with suppress(ConnectionResetError):
        while piece := opened.recv(1 << 20):
            content += piece
    return bytes(content)


@dataclass(slots=True)
class Probed:
    """How long /livez took, seconds, each time."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def at(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def probed(address: tuple[str, int]) -> Iterator[Probed]:
    """Asks /livez again and again for the time of the block."""
    found = Probed()
    # A process of its own: the clients of an attack take turns for one interpreter, and the server shall not be blamed for it.
    with subprocess.Popen(
        [sys.executable, "-S", "-c", PROBE, *map(str, address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as probe:
        assert probe.stdout is not None
        probe.stdout.readline()
        try:
            yield found
        finally:
            out, _ = probe.communicate(b"end")
            found.seconds, found.failures = json.loads(out)


def together(count: int, work: Callable[[int], None]) -> list[threading.Thread]:
    """`work(number)` in so many threads, started."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads
