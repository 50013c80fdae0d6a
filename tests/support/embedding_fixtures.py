"""Fixtures of the embedding tests: the real HTTP server, and an environment without settings from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from embeddings_endpoint import Endpoint, handler_of


@pytest.fixture(scope="session")
def _server() -> Iterator[tuple[ThreadingHTTPServer, Endpoint]]:
    endpoint = Endpoint()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(endpoint))
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server, endpoint
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def endpoint(_server: tuple[ThreadingHTTPServer, Endpoint]) -> Endpoint:
    """The server with its good manners restored."""
    _server[1].behave()
    return _server[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in (
        "OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_BASE_URL", "EMBEDDING_MODEL", "EMBEDDING_TIMEOUT",
        "EVERINDEX_QUERY_PROMPT", "EVERINDEX_DOCUMENT_PROMPT", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)  # where no .env lies
