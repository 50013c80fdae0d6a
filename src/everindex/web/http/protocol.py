"""The HTTP protocol of one connection: uvicorn's fast parser with limits of size and time, each response in one write.

A slow client occupies one connection and nothing else: no thread and no database connection. The limits are checked
once a second (`look`), so they cost nothing for an ordinary request, which arrives in one piece.
tests/unit/web/test_uvicorn_internals.py covers the uvicorn internals used here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everindex.access.hosts import TARGET_HOST
from everindex.errors import ServerBusy
from everindex.web.http.early_answers import (
    BODY_SECONDS,
    BODY_TIMED_OUT,
    HEAD_SECONDS,
    HEAD_TIMED_OUT,
    HEAD_TOO_LARGE,
    MALFORMED,
    MAX_HEAD_BYTES,
    TOO_MANY_CONNECTIONS,
)
from everindex.web.http.envelope import SECURITY_HEADERS
from everindex.web.http.problems import problem_response

#: A response is aborted if the client reads less than this many bytes in this time, since its bytes are held in memory.
STALLED_SECONDS = 20.0
LEAST_TAKEN_BYTES = 32 * 1024
#: A longer body is written separately: copying megabytes behind their head takes longer than waking the reader twice.
LONG_PART_BYTES = 64 * 1024
#: After a response to an incompletely read request, the rest is read and discarded, for at most this long and this many
#: bytes. A socket closed with unread bytes is reset, and the client may never see the response.
LINGER_SECONDS = 3.0
LINGER_BYTES = 2 * 1024 * 1024
#: Beyond the limit, connections are still accepted for these paths.
PROBES = frozenset({"/livez", "/readyz"})
PROBE_CONNECTIONS = 32


class OneWrite:
    """A transport that sends all writes of one event loop step together.

    uvicorn writes the head and the body of a response separately, and each write wakes the reader: for a short response
    that is a fifth of the server's time (docs/decisions/0014).
    """

    __slots__ = ("_loop", "_parts", "_protocol", "_transport", "written_bytes")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, protocol: Protocol) -> None:
        self._transport = transport
        self._loop = loop
        self._protocol = protocol
        self._parts: list[bytes] = []
        self.written_bytes = 0

    def write(self, data: bytes) -> None:
        if self._protocol.is_lingering:  # its end is sent already
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        if not self._protocol.lingers():
            self._transport.close()

    def is_closing(self) -> bool:
        return self._protocol.is_lingering or self._transport.is_closing()

    def has_ended(self) -> bool:
        return self._transport.is_closing() and not self._transport.get_write_buffer_size()

    def _flush(self) -> None:
        if self._parts:
            size = sum(map(len, self._parts))
            for part in self._parts if size > LONG_PART_BYTES else (b"".join(self._parts),):
                self._transport.write(part)
            self._parts.clear()
            self.written_bytes += size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection. `most` limits the number of connections of one server."""

    transport: OneWrite  # type: ignore[assignment]

    def __init__(self, *args: Any, most: int = 1000, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most
        self._fed = 0
        self._beside_body = 0
        self._is_unread = False  # a request has begun and is not there to its end
        self._stage = 0  # counts beginnings, ends of heads and ends of requests
        self._timed_stage = 0
        self._until = inf
        self.is_lingering = False
        self._is_ending = False  # the server is
        self._discarded = 0
        self._taken: tuple[float, int] | None = None  # when an answer began to wait, and how much had been taken then

    # --- reading

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(OneWrite(transport, self.loop, self))  # type: ignore[arg-type]
        self._until = self.loop.time() + HEAD_SECONDS
        if len(self.connections) > self._most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if self.is_lingering:
            self._discard(len(data))
            return
        self._fed = len(data)
        self._beside_body += self._fed
        super().data_received(data)
        if self._beside_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(HEAD_TOO_LARGE)
        elif self._is_unread:
            if self._timed_stage != self._stage:
                self._timed_stage = self._stage
                self._until = self.loop.time() + (BODY_SECONDS if self._is_in_body() else HEAD_SECONDS)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._until = inf
        elif self._until == inf:  # bytes that begin nothing
            self._until = self.loop.time() + HEAD_SECONDS

    def on_message_begin(self) -> None:
        self._beside_body = self._fed
        self._stage += 1
        self._is_unread = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stage += 1
        # httptools parses a URL byte by byte and rejects 64 KiB, so the query is cut off first.
        self.url, _, query = self.url.partition(b"?")
        if not self.url.startswith(b"/"):
            self._take_absolute_form()
        super().on_headers_complete()
        self.scope["query_string"] = query  # of the same scope that the application, which has not begun yet, is given

    def _take_absolute_form(self) -> None:
        """Handles `GET http://host/path`: the path is used as usual, and access/hosts.py checks the host."""
        scheme, found, rest = self.url.partition(b"://")
        if found and scheme.lower() in (b"http", b"https"):
            host, _, path = rest.partition(b"/")
            self.scope[TARGET_HOST] = host  # type: ignore[literal-required]
            self.url = b"/" + path

    def on_body(self, body: bytes) -> None:
        self._beside_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stage += 1
        self._is_unread = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HEAD_TOO_LARGE if self._beside_body > MAX_HEAD_BYTES else MALFORMED)

    # --- limits

    def look(self, now: float) -> None:
        """Called once a second: ends requests and responses that take too long."""
        if self.transport.has_ended():
            return
        if now >= self._until:
            self._reading_took_too_long(now)
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._taken = None
            return
        taken = self.transport.written_bytes - waiting
        if self._taken is None:
            self._taken = now, taken
        elif now - self._taken[0] >= STALLED_SECONDS:
            if taken - self._taken[1] < LEAST_TAKEN_BYTES:
                self._reset()
            self._taken = now, taken

    def _reset(self) -> None:
        """Resets the connection, so that the kernel discards the rest of the response at once and not after its own timeout."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _reading_took_too_long(self, now: float) -> None:
        if self.is_lingering:
            self.transport.abort()
        elif self.flow.read_paused:
            self._until = now + BODY_SECONDS  # it is us who do not read
        elif not self._is_unread and self.cycle is None:
            self.transport.close()  # a browser opens connections in advance; nothing was asked
        else:
            self._refuse(BODY_TIMED_OUT if self._is_in_body() else HEAD_TIMED_OUT)

    def _is_in_body(self) -> bool:
        return self.cycle is not None and self.cycle.scope is self.scope

    def _refuse(self, answer: bytes) -> None:
        """Responds instead of the application, unless that has begun to, and closes the connection."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering and cycle.response_started:
            self.transport.abort()
            return
        if is_answering:
            cycle.disconnected = True  # the handler that reads the body learns that the client is gone
            cycle.message_event.set()
        if cycle is None or not cycle.response_complete or not self._is_in_body():
            self.transport.write(answer)
        self.transport.close()

    def lingers(self) -> bool:
        """Keeps reading for a moment when closing with an incompletely read request. Returns False in other cases."""
        if self.is_lingering or self._is_ending or not self._is_unread or self.transport.is_closing():
            return False
        self.is_lingering = True
        self._until = self.loop.time() + LINGER_SECONDS
        self.transport.write_eof()
        self.flow.resume_reading()
        return True

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > LINGER_BYTES:
            self.transport.abort()

    def shutdown(self) -> None:
        self._is_ending = True
        super().shutdown()

    # --- number of connections

    def _make_room(self) -> None:
        """Above the limit, closes the connection that has kept the server waiting longest. If none has, this one gets a
        503, except for probes."""
        waiting = [each for each in self.connections if isinstance(each, Protocol) and each.is_waited_for]
        longest = min((each for each in waiting if each is not self), key=lambda each: each.waiting_since, default=None)
        if longest is not None:
            longest.transport.abort()
        elif len(self.connections) > self._most + PROBE_CONNECTIONS:
            self._refuse(TOO_MANY_CONNECTIONS)
        else:
            self.app = _probes_only(self.app)

    @property
    def is_waited_for(self) -> bool:
        """Whether the server waits for the client: the connection is idle, its head is incomplete, or its response is
        not read."""
        return self.is_lingering or self.cycle is None or self.cycle.response_complete

    @property
    def waiting_since(self) -> float:
        """The approximate loop time since when; an incomplete head ranks before an idle connection."""
        return self._until


def _probes_only(app: Any) -> Any:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in PROBES:
            await app(scope, receive, send)
        else:
            error = ServerBusy(
                "too many connections are open.", why="the limit EVERINDEX_MAX_CONNECTIONS is reached.",
                next_step="try again in a moment.",
            )  # fmt: skip
            await problem_response(error, SECURITY_HEADERS | {"connection": "close"})(scope, receive, send)

    return answer
