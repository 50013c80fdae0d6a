"""The envelope of every request and response: an id, headers, a size limit, host and origin checks, the gate, one log line."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everindex.access.hosts import Hosts
from everindex.errors import BodyTooLarge, CrossSiteRefused
from everindex.request_context import REQUEST_ID
from everindex.tracing import note, request_span
from everindex.web.http.gate import Gate, audit
from everindex.web.http.given import has_bearer
from everindex.web.http.origin import is_cross_site
from everindex.web.http.request_times import RequestTimes, route_of

access_log = logging.getLogger("everindex.access")
log = logging.getLogger(__name__)

#: The size limit of a request body: a vector of 16,000 numbers as JSON takes about 350,000 bytes.
MAX_BODY_BYTES = 1_000_000
#: An incoming X-Request-ID is used if it is safe in a log line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_ENCODED_HEADERS = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

#: Turns an exception into the response format that the request prefers.
Answering = Callable[[Request, Exception], Response]


class Envelope:
    """The outermost ASGI layer: every request that reaches it gets a response."""

    def __init__(
        self, app: ASGIApp, *, answer_exception: Answering, hosts: Hosts, gate: Gate, times: RequestTimes
    ) -> None:
        self._app = app
        self._times = times
        self._hosts = hosts
        self._gate = gate
        self._answer_exception = answer_exception

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(self._app, self._answer_exception, self._hosts, self._gate, scope, receive, send)
        started = time.perf_counter()
        self._times.begin()
        before = REQUEST_ID.set(exchange.request_id)
        try:
            with request_span(exchange.headers) as current:
                try:
                    await exchange.run()
                finally:
                    note(
                        current, f"{exchange.method} {route_of(exchange.scope)}",
                        http__request__method=exchange.method, http__route=route_of(exchange.scope),
                        http__response__status_code=exchange.status, everindex__request_id=exchange.request_id,
                    )  # fmt: skip
        finally:
            REQUEST_ID.reset(before)
            self._times.end(exchange.scope, exchange.method, exchange.status, time.perf_counter() - started)


class _Exchange:
    """One request and its response."""

    def __init__(
        self, app: ASGIApp, answer_exception: Answering, hosts: Hosts, gate: Gate, scope: Scope, receive: Receive,
        send: Send,
    ) -> None:  # fmt: skip
        self._app = app
        self._hosts = hosts
        self._gate = gate
        self._answer_exception = answer_exception
        self.headers = Headers(scope=scope)
        self.method: str = scope["method"]
        # HEAD is handled as GET; the server omits the body.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self._receive_outer = receive
        self._send_outer = send
        self._received = 0
        self.status: int | None = None
        wanted = self.headers.get("x-request-id", "")
        self.request_id = wanted if _REQUEST_ID.fullmatch(wanted) else f"{random.getrandbits(128):032x}"
        self.scope["everindex.request_id"] = self.request_id

    async def run(self) -> None:
        started = time.perf_counter()
        try:
            self._refuse_unwanted()
            await self._gate.admit(self.scope, self.headers)
            await self._app(self.scope, self._receive, self._send)
        except (
            ClientDisconnect
        ):  # in the middle of its body: nobody is there to be answered, and nothing went wrong here
            return
        except Exception as exc:  # the last place where an error can still become an answer
            if self.status is not None:
                log.exception(
                    "request %s failed after its response had begun",
                    self.request_id,
                    extra={"event": "response-broken"},
                )
                raise
            response = self._answer_exception(Request(self.scope), exc)
            await response(self.scope, self._receive, self._send)
        finally:
            audit(self.scope, method=self.method, status=self.status)
            if access_log.isEnabledFor(logging.INFO):
                self._log((time.perf_counter() - started) * 1000)

    def _log(self, milliseconds: float) -> None:
        access_log.info(
            "%s %s %s %.1f ms", self.method, self.scope["path"].encode("unicode_escape").decode(),
            self.status or "client-gone", milliseconds,
            extra={"event": "request", "request_id": self.request_id, "method": self.method, "path": self.scope["path"],
                   "status": self.status, "duration_ms": round(milliseconds, 1)},
        )  # fmt: skip

    def _refuse_unwanted(self) -> None:
        self._hosts.require(self.scope)
        if is_cross_site(self.method, self.headers) and not has_bearer(self.headers):
            raise CrossSiteRefused(
                "this request came from another site and was rejected.",
                why="in a browser, only everindex's own pages may make changes.",
                next_step="open everindex and make the change there.",
            )
        length = self.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            raise _too_large()

    async def _receive(self) -> Message:
        message = await self._receive_outer()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > MAX_BODY_BYTES:
                raise _too_large()
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *_ENCODED_HEADERS, (b"x-request-id", self.request_id.encode())]
            message = {**message, "headers": headers}
        await self._send_outer(message)


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(
        "the request is too large.",
        why=f"at most {MAX_BODY_BYTES} bytes are read.",
        next_step="send less; articles are imported by  everindex import .",
    )
