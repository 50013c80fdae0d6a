"""The gate before all routes, with credentials that it knows already: no database is asked."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from starlette.datastructures import Headers

from everindex.access.authenticator import Authenticator, Mode
from everindex.access.credentials import new_secret
from everindex.access.request_limits import RequestLimits
from everindex.access.scopes import Principal, Scope
from everindex.errors import EverindexError
from everindex.web.http.gate import PRINCIPAL, Gate
from loops import in_a_loop

TOKEN, SESSION = new_secret(), new_secret()


class LookedUp(Exception):
    """A secret was not known."""


def no_connection() -> AbstractContextManager[Any]:
    raise LookedUp


async def look_up(work: Callable[[], Any]) -> Any:
    return work()


def sent(mode: Mode, path: str, *, method: str = "GET", **headers: str) -> str:
    """Who sent a request that passes, else the slug of its error."""
    authenticator = Authenticator(no_connection, mode=mode)
    reader = Principal(kind="token", name="t", scope=Scope.READ)
    authenticator.remember(TOKEN, reader, kind="token", expires_at=None)
    writer = Principal(kind="user", name="u", scope=Scope.WRITE)
    authenticator.remember(SESSION, writer, kind="session", expires_at=None)
    gate = Gate(authenticator, RequestLimits(per_minute=0), in_database=look_up)
    scope: dict[str, Any] = {"method": method, "path": path, "client": ("127.0.0.1", 1)}
    try:
        in_a_loop(gate.admit(scope, Headers({"host": "localhost:8000"} | headers)))
    except EverindexError as exc:
        return exc.slug
    return str(scope[PRINCIPAL].label)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


COOKIE = f"everindex_session_8000={SESSION}"


def test_tokens_sessions_and_nobody_pass_as_far_as_their_scope_reaches() -> None:
    assert sent("local", "/saved", method="POST") == "local"
    assert sent("open", "/api/search") == "anonymous"
    assert sent("open", "/saved", method="POST") == "sign-in-needed"
    assert sent("sign-in", "/api/search") == "sign-in-needed"
    assert sent("sign-in", "/api/search", authorization=f"Bearer {TOKEN}") == "token t"
    assert sent("sign-in", "/saved", method="POST", authorization=f"Bearer {TOKEN}") == "scope-missing"
    assert sent("sign-in", "/saved", method="POST", cookie=COOKIE) == "user u"
    assert sent("sign-in", "/index/verify", method="POST", cookie=COOKIE) == "scope-missing"
    assert sent("sign-in", "/livez", authorization="Bearer wrong") == "anonymous", "a probe asks nobody"


def test_a_session_is_no_token_and_a_token_no_session() -> None:
    with pytest.raises(LookedUp):
        sent("sign-in", "/api/search", authorization=f"Bearer {SESSION}")
    with pytest.raises(LookedUp):
        sent("sign-in", "/api/search", cookie=f"everindex_session_8000={TOKEN}")


def test_basic_is_a_token_where_one_is_needed_and_else_what_a_proxy_asks_for() -> None:
    assert sent("sign-in", "/saved/x.rss", authorization=basic(TOKEN)) == "token t"
    assert sent("sign-in", "/api/search", authorization=basic(TOKEN)) == "sign-in-needed"
    assert sent("sign-in", "/api/search", authorization=basic("of a proxy"), cookie=COOKIE) == "user u"
    assert sent("sign-in", "/saved/x.rss", authorization=basic("wrong")) == "token-refused"
    for mode in ("local", "open"):
        assert sent(mode, "/saved/x.rss", authorization=basic("of a proxy")) in ("local", "anonymous")  # type: ignore[arg-type]
