"""How are requests read and answers written? By uvicorn's fast HTTP parser, within a limit, and each answer in one write."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from everindex.web.hosts import TARGET_HOST

#: A request may have so many bytes beside its body. A text of 10,000 characters that are no ASCII, percent-encoded in the
#: address, fits several times.
MAX_HEAD_BYTES = 512 * 1024

_REASON = f"The head of the request has more than {MAX_HEAD_BYTES} bytes.\n".encode()
_TOO_LARGE = b"".join((
    STATUS_LINE[431], b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(_REASON),
    b"connection: close\r\n\r\n", _REASON,
))  # fmt: skip


class OneWrite:
    """A transport whose writes of one step of the loop leave together.

    uvicorn writes the head and the body of an answer apart, and each write wakes the reader: of a short answer that is a
    fifth of the server's time (docs/decisions/0014).
    """

    __slots__ = ("_loop", "_parts", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            together = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(together)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection. The parser itself takes a head of any length; this one answers 431 and closes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fed = 0
        self._beside_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._fed = len(data)
        self._beside_body += self._fed
        super().data_received(data)
        if self._beside_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        self._beside_body = self._fed
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # httptools takes addresses apart byte by byte, and none of 64 KiB: the query is cut off before.
        self.url, _, query = self.url.partition(b"?")
        if not self.url.startswith(b"/"):
            self._take_absolute_form()
        super().on_headers_complete()
        self.scope["query_string"] = query  # of the same scope that the application, which has not begun yet, is given

    def _take_absolute_form(self) -> None:
        """`GET http://host/path`: the path goes on as usual, the host is for web/hosts.py to judge."""
        scheme, found, rest = self.url.partition(b"://")
        if found and scheme.lower() in (b"http", b"https"):
            host, _, path = rest.partition(b"/")
            self.scope[TARGET_HOST] = host  # type: ignore[literal-required]
            self.url = b"/" + path

    def on_body(self, body: bytes) -> None:
        self._beside_body -= len(body)
        super().on_body(body)
