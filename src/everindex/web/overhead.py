"""The overhead of HTTP over a search: the application on its own port, called over one connection."""

from __future__ import annotations

import base64
import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from everindex.articles.instance import Instance
from everindex.articles.overhead import in_turns, query_vectors, resident_mb
from everindex.index.spec import DEFAULT_K
from everindex.web.serving import serve_in_thread

TEXTS = (
    "memory leak in the parser",
    "deadlock when a thread is forked",
    "wrong timezone in datetime",
    "crash on Windows",
)


def measure_http(instance: Instance, *, queries: int, rounds: int) -> dict[str, Any]:
    """Median milliseconds of `GET /api/search?q=` against `instance.search`, and of `?vector=` against `search_vector`,
    in turns; and the resident memory of the serving process."""
    vectors = query_vectors(instance, queries)
    # The requests are prepared before timing starts, since that is not the server's time.
    cases = [(TEXTS[number % len(TEXTS)], vector, _path(vector)) for number, vector in enumerate(vectors)]
    with _client(instance) as ask:
        subjects: dict[str, Callable[[tuple[str, np.ndarray, str]], Any]] = {
            "text": lambda case: instance.search(case[0], k=DEFAULT_K),
            "http_text": lambda case: ask(f"/api/search?{urllib.parse.urlencode({'q': case[0], 'k': DEFAULT_K})}"),
            "vector": lambda case: instance.search_vector(case[1], k=DEFAULT_K),
            "http_vector": lambda case: ask(case[2]),
        }
        medians = in_turns(subjects, cases, rounds=rounds)
        memory = resident_mb()
    return {
        **{f"{name}_ms": value for name, value in medians.items()},
        "http_text_over_search_ms": medians["http_text"] - medians["text"],
        "http_vector_over_search_ms": medians["http_vector"] - medians["vector"],
        "rss_mb": memory,
    }


def _path(vector: np.ndarray) -> str:
    encoded = base64.urlsafe_b64encode(vector.astype("<f4").tobytes()).decode()
    return f"/api/search?vector={encoded}&k={DEFAULT_K}"


@contextmanager
def _client(instance: Instance) -> Iterator[Callable[[str], bytes]]:
    """The application behind a real socket; yields a function that requests a path and returns the body of a 200 response."""
    with serve_in_thread(instance) as url:
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=30)
        lock = threading.Lock()

        def ask(path: str) -> bytes:
            with lock:
                connection.request("GET", path)
                response = connection.getresponse()
                content = response.read()
            if response.status != 200:
                raise RuntimeError(f"{path.split('?')[0]} answered {response.status}: {content[:200]!r}")
            return content

        try:
            yield ask
        finally:
            connection.close()
