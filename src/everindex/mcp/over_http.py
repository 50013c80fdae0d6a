"""The MCP server over streamable HTTP, for those who may read: the same tokens, modes and hosts as the web application's.

A request needs a token of scope `read`, unless access is open (docs/decisions/0028); sessions of the pages are not taken.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvicorn
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from everindex.access.authenticator import Authenticator, authenticator_for
from everindex.access.credentials import bearer_of
from everindex.access.hosts import Hosts
from everindex.access.refusals import refusal, token_refused
from everindex.access.request_limits import RequestLimits, network_of
from everindex.access.scopes import Principal
from everindex.access.scopes import Scope as Needed
from everindex.articles.instance import Instance
from everindex.errors import EverindexError, ExtraMissing, ScopeMissing, SignInNeeded, TooManyRequests
from everindex.host_names import is_loopback, names_of

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings
except ImportError as exc:
    raise ExtraMissing("mcp", package="mcp", exc=exc) from exc

log = logging.getLogger(__name__)


class Guarded:
    """An ASGI application behind the checks of host and token."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator, hosts: Hosts) -> None:
        self._app = app
        self._authenticator = authenticator
        self._hosts = hosts
        self._limits = RequestLimits(per_minute=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._hosts.require(scope)
            principal = await self._principal(scope)
            if not principal.may(Needed.READ):
                raise refusal(principal, Needed.READ)
        except EverindexError as exc:
            await _problem(exc)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _principal(self, scope: Scope) -> Principal:
        if self._authenticator.is_due:
            self._authenticator.postpone()
            await asyncio.to_thread(self._authenticator.look)
        given = dict(scope["headers"]).get(b"authorization", b"")
        secret = bearer_of(given.decode("latin-1"))
        if secret is None:
            return self._authenticator.somebody
        known = self._authenticator.known(secret, kind="token")
        if known is not None:
            return known
        address = network_of(str(scope["client"][0]) if scope.get("client") else "")
        self._limits.require_few_wrong_secrets(address)
        found = await asyncio.to_thread(self._authenticator.find, secret, kind="token")
        if found is None:
            self._limits.count_wrong_secret(address)
            raise token_refused()
        return found


def _problem(error: EverindexError) -> Response:
    """The error as problem+json (RFC 9457), as the web application gives it."""
    lines = error.as_dict()
    headers = {}
    match error:
        case SignInNeeded() | ScopeMissing():
            headers["www-authenticate"] = ", ".join(error.challenges)
        case TooManyRequests():
            headers["retry-after"] = str(error.retry_after_seconds)
    content = {
        "type": f"/problems/{error.slug}", "title": lines["what"], "status": error.http_status, "detail": lines["why"],
        "next": lines["next"],
    }  # fmt: skip
    return Response(
        to_json(content), status_code=error.http_status, media_type="application/problem+json", headers=headers
    )


def guarded_app(server: MCPServer[Any], instance: Instance, *, host: str) -> Guarded:
    """The application at /mcp. Raises AccessNotConfigured for a host that other machines reach, where nothing says who may use
    it."""
    settings = instance.settings
    authenticator = authenticator_for(
        instance.connection, access=settings.access, is_loopback=host == "localhost" or is_loopback(host), where=host,
        what="the MCP server",
    )  # fmt: skip
    # Hosts are checked here, by the rules of the web application.
    app = server.streamable_http_app(
        host=host, transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    return Guarded(app, authenticator, Hosts(bound=host, allowed=names_of(settings.allowed_hosts)))


def serve_guarded(app: Guarded, *, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM."""
    uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False)).run()
