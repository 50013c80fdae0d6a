"""A small real embedder: one HTTP request per call to a real server that can be down, or refuse single texts."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from everindex.articles.embedding.provider import EmbeddingBatch

WIDTH = 1536


def vector_of(text: str, *, model: str = "small", width: int = WIDTH) -> np.ndarray:
    """The vector that the endpoint gives a text: of length 1, another for every text and model."""
    seed = int.from_bytes(hashlib.sha256(f"{model}\n{text}".encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(width)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class Endpoint:
    """How the server behaves, and how often it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.is_down = False
        self.refused: set[str] = set()
        self.texts: list[str] = []


def handler_of(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if endpoint.is_down:
                self.send_response(503)
                self.end_headers()
                return
            endpoint.texts += request["texts"]
            answer = [
                None if text in endpoint.refused else vector_of(text, model=request["model"]).tolist()
                for text in request["texts"]
            ]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class HttpEmbedder:
    """An `Embedder` of one model behind an `Endpoint`."""

    is_remote = True
    dimensions = WIDTH

    def __init__(self, endpoint: Endpoint, model: str = "small") -> None:
        self._endpoint = endpoint
        self.model = model

    def embed(self, texts: Sequence[str]) -> EmbeddingBatch:
        vectors = np.full((len(texts), WIDTH), np.nan, dtype=np.float32)
        address = urlsplit(self._endpoint.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
        try:
            connection.request("POST", address.path, json.dumps({"model": self.model, "texts": list(texts)}))
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            return EmbeddingBatch(
                vectors=vectors, failures=dict.fromkeys(range(len(texts)), f"the endpoint answered {response.status}")
            )
        failures = {}
        for number, vector in enumerate(json.loads(body)):
            if vector is None:
                failures[number] = "the endpoint refuses this text"
            else:
                vectors[number] = vector
        return EmbeddingBatch.checked(vectors, width=WIDTH, failures=failures)
