"""A real HTTP server that speaks, or garbles, the OpenAI embeddings protocol, on a free port of 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

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


def vector_of(text: str, width: int = WIDTH, *, model: str = "local") -> np.ndarray:
    """The vector that the server gives a text, `(width,) float32`: of length 1, another for every text and model."""
    seed = int.from_bytes(hashlib.sha256(f"{model}\n{text}".encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(width)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def numbers_of(text: str, width: int = WIDTH, *, model: str = "local") -> list[float]:
    """The same as JSON has it."""
    numbers: list[float] = vector_of(text, width, model=model).tolist()
    return numbers


def good(request: dict[str, Any], width: int = WIDTH) -> Reply:
    """The right answer to a request."""
    vectors = [numbers_of(text, width, model=request["model"]) for text in request["input"]]
    return Reply(body={"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]})


class Endpoint:
    """The server's behaviour and its requests. `answer` gets the request's JSON and how many came before."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: set[tuple[str, int]] = set()
        """The clients that are connected at this moment, by their addresses."""

        self.behave()

    def behave(self) -> None:
        """Forgets what was sent, and answers every text."""
        self.answer: Callable[[dict[str, Any], int], Reply] = lambda request, _: good(request, self.width)
        self.width = WIDTH
        self.is_down = False
        self.refused: set[str] = set()
        """Texts for which a request is refused as a whole."""

        self.requests: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.arrivals: list[float] = []

    @property
    def texts(self) -> list[str]:
        """All that were sent, in order."""
        return [text for request in self.requests for text in request["input"]]

    def reply(self, request: dict[str, Any], before: int) -> Reply:
        if self.is_down:
            return Reply(status=503)
        if self.refused.intersection(request["input"]):
            return Reply(status=400)
        return self.answer(request, before)

    def embedder(
        self,
        *,
        kind: type[OpenAICompatibleEmbedder] = OpenAICompatibleEmbedder,
        retries: RetryPolicy = QUICK,
        **others: Any,
    ) -> OpenAICompatibleEmbedder:
        settings = {
            "width": self.width,
            "model_name": "local",
            "api_key": "sk-very-secret",
            "base_url": self.url,
        } | others
        return kind(retries=retries, **settings)


def handler_of(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # head and body in one packet: two would wait 40 ms for the delayed ACK of the first

        def setup(self) -> None:
            endpoint.connections.add(self.client_address)
            super().setup()

        def finish(self) -> None:
            super().finish()
            endpoint.connections.discard(self.client_address)

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests.append(request)
            endpoint.authorizations.append(self.headers.get("Authorization"))
            endpoint.arrivals.append(time.monotonic())
            reply = endpoint.reply(request, len(endpoint.requests) - 1)
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
