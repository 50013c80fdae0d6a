"""Who may use the MCP server over HTTP: the tokens, modes and hosts of the web application hold there as well."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn

from access_fixtures import basic, bearer, let_in
from everindex.articles.connect import connect_instance
from everindex.errors import AccessNotConfigured
from everindex.mcp.over_http import guarded_app
from everindex.mcp.server import make_server
from everindex.settings import Settings

HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
ACCEPT = {"accept": "application/json, text/event-stream"}


@contextmanager
def served(conninfo: str, **settings: str) -> Iterator[str]:
    with connect_instance(conninfo, settings=Settings(**settings)) as instance, socket.socket() as sock:
        app = guarded_app(make_server(instance), instance, host="127.0.0.1")
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        server.should_exit = True
        thread.join(20)


def test_a_token_that_may_read_is_needed_once_there_is_one(filled: str) -> None:
    with served(filled) as url:
        assert httpx2.post(url, json=HELLO, headers=ACCEPT).status_code == 200, "on this machine nobody is asked"
    people = let_in(filled)
    with served(filled) as url:
        for headers, status in (
            ({}, 401), (bearer(people.tokens["unknown"]), 401), (bearer(people.tokens["expired"]), 401),
            (bearer(people.tokens["revoked"]), 401), (basic(people.tokens["read"]), 401), (bearer("x"), 401),
            (bearer(people.tokens["read"]), 200), (bearer(people.tokens["operate"]), 200),
        ):  # fmt: skip
            answer = httpx2.post(url, json=HELLO, headers=ACCEPT | headers)
            assert answer.status_code == status, (headers, answer.text)
            if status == 401:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["www-authenticate"].startswith("Bearer")
        rebound = httpx2.post(
            url, json=HELLO, headers=ACCEPT | bearer(people.tokens["read"]) | {"host": "evil.example"}
        )
        assert (rebound.status_code, rebound.json()["type"]) == (421, "/problems/host-refused")
    with served(filled, EVERINDEX_ACCESS="open") as url:
        assert httpx2.post(url, json=HELLO, headers=ACCEPT).status_code == 200


def test_it_does_not_start_where_others_reach_it_before_it_is_known_who_may(filled: str) -> None:
    with (
        connect_instance(filled, settings=Settings()) as instance,
        pytest.raises(AccessNotConfigured, match="the MCP server does not start at"),
    ):
        guarded_app(make_server(instance), instance, host="0.0.0.0")
