"""The requests of one application: how many, how long they took, and how many run, by the route and never by the address."""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector
from starlette.types import Scope

#: In the scope of a request that bypasses the router: its route.
DIRECT_ROUTE = "everindex.route"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BOUNDS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RequestTimes:
    """Counts requests. What no route matches counts as `unmatched`, so that addresses that somebody tries add no series."""

    def __init__(self) -> None:
        self._requests = Counter(
            "everindex_http_requests", "Requests that were answered.", ["method", "route", "status"], registry=None
        )
        self._seconds = Histogram(
            "everindex_http_request_seconds", "Duration of requests.", ["route"], buckets=BOUNDS_SECONDS, registry=None
        )
        self._running = Gauge("everindex_http_requests_running", "Requests that are being answered.", registry=None)
        self.collectors: tuple[Collector, ...] = (self._requests, self._seconds, self._running)

    def begin(self) -> None:
        self._running.inc()

    def end(self, scope: Scope, method: str, status: int | None, seconds: float) -> None:
        """`status` is None where the client left before its response began."""
        route = route_of(scope)
        self._running.dec()
        self._seconds.labels(route).observe(seconds)
        self._requests.labels(
            method if method in METHODS else "other", route, "client-gone" if status is None else str(status)
        ).inc()


def route_of(scope: Scope) -> str:
    """The address of a request as its route is declared, such as `/articles/{uri:path}`."""
    known = scope.get(DIRECT_ROUTE)
    if known is not None:
        return str(known)
    route: Any = scope.get("route")
    path = getattr(route, "path", None)
    if path is not None:
        return str(path)
    if "endpoint" not in scope:
        return "unmatched"
    return "/static" if str(scope["path"]).startswith("/static/") else "page"
