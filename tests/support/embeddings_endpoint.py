"""A real HTTP server that speaks, or garbles, the OpenAI embeddings protocol, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from everindex.articles.embedding import OpenAICompatibleEmbedder, RetryPolicy

WIDTH = 8
QUICK = RetryPolicy(
    attempts=3, total_seconds=5, first_wait_seconds=0.005, longest_wait_seconds=0.01, jitter_seconds=0.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the server answers to one request; `body` is sent as it is when it is bytes, else as JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    announced_bytes: int | None = None
    """A Content-Length of one's own: with more than the body has, the connection breaks off in the middle."""


def vector_of(text: str, width: int = WIDTH) -> list[float]:
    """A vector that tells which text it is of: the length of the text, then ones."""
    return [float(len(text))] + [1.0] * (width - 1)


def good(request: dict[str, Any], width: int = WIDTH) -> Reply:
    """The right answer to a request."""
    return Reply(
        body={"data": [{"index": i, "embedding": vector_of(t, width)} for i, t in enumerate(request["input"])]}
    )


class Endpoint:
    """The server's behaviour and what it was asked. `answer` gets the request's JSON and how many came before."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any], int], Reply] = lambda request, _: good(request)
        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.arrivals: list[float] = []
        self.url = ""

    def embedder(self, *, retries: RetryPolicy = QUICK, **others: Any) -> OpenAICompatibleEmbedder:
        settings = {"width": WIDTH, "model_name": "local", "api_key": "sk-very-secret", "base_url": self.url} | others
        return OpenAICompatibleEmbedder(retries=retries, **settings)


def handler_of(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # head and body in one packet: two would wait 40 ms for the delayed ACK of the first

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests.append(request)
            endpoint.authorizations.append(self.headers.get("Authorization"))
            endpoint.arrivals.append(time.monotonic())
            reply = endpoint.answer(request, len(endpoint.requests) - 1)
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            time.sleep(reply.delay_seconds)
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(reply.announced_bytes or len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                pass  # the client did not wait
            if reply.announced_bytes is not None:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
