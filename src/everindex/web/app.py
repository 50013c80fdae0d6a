"""The application that serves an instance: pages, JSON API, probes and assets, inside one envelope."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import everindex
from everindex.access.authenticator import Authenticator, authenticator_for
from everindex.access.hosts import Hosts
from everindex.access.request_limits import RequestLimits
from everindex.access.scopes import Principal
from everindex.articles.instance import Instance
from everindex.errors import InternalError
from everindex.host_names import names_of
from everindex.web.api import collections as collections_api
from everindex.web.api import deletion as deletion_api
from everindex.web.api import incidents as incidents_api
from everindex.web.api import metrics as metrics_api
from everindex.web.api import probes as operations
from everindex.web.api import routes as api
from everindex.web.api import saved as saved_api
from everindex.web.api.answer_schemas import ProblemOut
from everindex.web.api.openapi import completed
from everindex.web.http.envelope import Envelope
from everindex.web.http.gate import Gate
from everindex.web.http.page_data import as_data, varying
from everindex.web.http.problems import as_ours
from everindex.web.http.request_times import DIRECT_ROUTE, RequestTimes
from everindex.web.http.route_scopes import without_rule
from everindex.web.pages import collections as collection_pages
from everindex.web.pages import incident as one_incident_page
from everindex.web.pages import incidents as incident_page
from everindex.web.pages import index as index_page
from everindex.web.pages import manual
from everindex.web.pages import saved as saved_page
from everindex.web.pages import search as search_page
from everindex.web.pages import sign_in as sign_in_page
from everindex.web.pages.assets import serve_asset
from everindex.web.pages.reference import operations as described_operations
from everindex.web.pages.render import error_response, page
from everindex.web.site import Site, site_of

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DESCRIPTION = "Article search on PostgreSQL + pgvector. Errors are problem+json (RFC 9457); `next` says what to do."

#: Served without FastAPI's layers around a handler (telemetry, exit stacks, dependencies, matching every route), which
#: take as long as the search itself (docs/decisions/0014). The envelope still applies, and FastAPI documents the route
#: as usual.
DIRECT = {("GET", "/api/search"): api.search, ("GET", "/livez"): operations.livez}


class Application(FastAPI):
    """FastAPI with a shortcut to the most frequent handler."""

    def __init__(self, *, hosts: Hosts, gate: Gate, times: RequestTimes, **options: Any) -> None:
        checks: dict[str, Any] = {"answer_exception": answer_exception, "hosts": hosts, "gate": gate, "times": times}
        super().__init__(**options, middleware=[Middleware(Envelope, **checks)])
        self._direct = Envelope(_answer_directly, **checks)
        self._authenticator = gate.authenticator
        self._described_for: Principal | None = None

    def openapi(self) -> dict[str, Any]:
        everybody = self._authenticator.somebody
        if self.openapi_schema is None or self._described_for != everybody:
            self.openapi_schema = None
            document = super().openapi()
            self.openapi_schema = completed(document, ProblemOut.model_json_schema(), everybody=everybody)
            self._described_for = everybody
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = as_data(scope)
        if data is not None:
            scope, send = data, varying(send)
        if scope["type"] == "http" and (scope["method"], scope["path"]) in DIRECT:
            scope["app"] = self
            scope[DIRECT_ROUTE] = scope["path"]
            await self._direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


async def _answer_directly(scope: Scope, receive: Receive, send: Send) -> None:
    response = await DIRECT[scope["method"], scope["path"]](Request(scope, receive))
    await response(scope, receive, send)


def create_app(
    instance: Instance,
    *,
    host: str | None = None,
    authenticator: Authenticator | None = None,
    facets_seconds: float = 60.0,
    index_seconds: float = 10.0,
    verification_seconds: float = 300.0,
) -> FastAPI:
    """The web application of an open instance; the caller closes the instance afterwards.

    `host` is the address that the server listens on, if known: one of the hosts that it serves. `authenticator` says who may
    use it; without one it is that of a server on loopback. The three times say how long the filter values, the state of the
    index and its checks are cached.
    """
    settings = instance.settings
    times = RequestTimes()
    site = Site(
        instance, times, facets_seconds=facets_seconds, index_seconds=index_seconds, verification_seconds=verification_seconds,
        authenticator=authenticator or authenticator_of(instance, is_loopback=True, where="127.0.0.1"),
    )  # fmt: skip
    limits = RequestLimits(per_minute=settings.requests_per_minute)
    app = Application(
        title="everindex", version=everindex.__version__, description=DESCRIPTION, docs_url=None, redoc_url=None,
        redirect_slashes=False,
        hosts=Hosts(bound=host, allowed=names_of(settings.allowed_hosts)), times=times,
        gate=Gate(site.authenticator, limits, in_database=site.in_database),
        exception_handlers={HTTPException: _answer_refusal, RequestValidationError: _answer_refusal},
    )  # fmt: skip
    app.state.site, app.state.limits = site, limits
    for part in (
        api, collections_api, saved_api, incidents_api, deletion_api, operations, metrics_api,
        search_page, saved_page, incident_page, one_incident_page, index_page, collection_pages, sign_in_page,
    ):  # fmt: skip
        app.include_router(part.router)
    app.add_route("/static/{name:path}", serve_asset, include_in_schema=False)
    app.add_route("/docs", reference_page, include_in_schema=False)
    manual.add_routes(app)
    missing = without_rule(routes_of(app))
    if missing:
        raise RuntimeError(f"routes without a scope, to be listed in web/http/route_scopes.py: {', '.join(missing)}")
    return app


def authenticator_of(instance: Instance, *, is_loopback: bool, where: str) -> Authenticator:
    """Who may use the application of `instance` at an address. Raises AccessNotConfigured, SettingInvalid."""
    return authenticator_for(instance.connection, access=instance.settings.access, is_loopback=is_loopback, where=where)


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every route of the application as (method, path template); HEAD is answered as GET."""
    return [
        (method, context.path)
        for context in iter_route_contexts(app.router.routes)
        for method in sorted((context.methods or set()) - {"HEAD"})
        if context.path is not None
    ]


async def reference_page(request: Request) -> Response:
    """GET /docs: the reference of the API."""

    def render() -> Response:
        return page("docs.html", groups=described_operations(request.app.openapi()), here="/docs")

    return await site_of(request).compute(render, characters=0)


async def _answer_refusal(request: Request, exc: Exception) -> Response:
    return answer_exception(request, exc)


def allowed_methods(request: Request) -> str:
    """The methods allowed for this address over all its routes; the router reports only those of the first one."""
    routes = request.app.router.routes
    return ", ".join(
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    )


def answer_exception(request: Request, exc: Exception) -> Response:
    """Any exception as a response. An unexpected one is logged with its traceback, which the response omits."""
    request_id = str(request.scope.get("everindex.request_id", "unknown"))
    if isinstance(exc, HTTPException) and exc.status_code == 405:
        exc.headers = {"Allow": allowed_methods(request)}
    error = as_ours(exc, request_id)
    if isinstance(error, InternalError):
        log.error("request %s failed: internal error", request_id, exc_info=exc, extra={"event": "request-failed"})
    elif error.http_status >= 500:
        log.warning(
            "request %s failed: %s: %s (%s)",
            request_id,
            error.slug,
            error.what,
            error.why,
            extra={"event": "request-refused", "problem": error.slug, "status": error.http_status},
        )
    return error_response(request, error, dict(exc.headers or {}) if isinstance(exc, HTTPException) else {})
