"""One connection of HTTP: read by uvicorn's fast parser within limits of size and time, each answer in one write.

What a client is slow at costs a place among the connections and nothing else: no thread, no place in the database. The limits
are looked at once a second (`look`), so that an ordinary request, which comes in one piece, pays for none of them.
What of uvicorn this builds on is in tests/unit/web/test_uvicorn_internals.py.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
from everindex.web.http.hosts import TARGET_HOST
from everindex.web.http.problems import problem_response

#: An answer of which less than so much is taken in that time is given up; its bytes are held in memory meanwhile.
STALLED_SECONDS = 20.0
LEAST_TAKEN_BYTES = 32 * 1024
#: What is longer is written by itself: to copy megabytes behind their head takes longer than to wake the reader twice.
LONG_PART_BYTES = 64 * 1024
#: After an answer to a request that is not read to its end: for so long, and so many bytes, it is read and thrown away.
#: A socket that is closed with unread bytes in it is reset, and the client may never see the answer.
LINGER_SECONDS = 3.0
LINGER_BYTES = 2 * 1024 * 1024
#: Beyond the limit, connections are still taken for these.
PROBES = frozenset({"/livez", "/readyz"})
PROBE_CONNECTIONS = 32


class OneWrite:
    """A transport whose writes of one step of the loop leave together.

    uvicorn writes the head and the body of an answer apart, and each write wakes the reader: of a short answer that is a
    fifth of the server's time (docs/decisions/0014).
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
    """One connection. `most` bounds how many there are of one server."""

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
        # httptools takes addresses apart byte by byte, and none of 64 KiB: the query is cut off before.
        self.url, _, query = self.url.partition(b"?")
        if not self.url.startswith(b"/"):
            self._take_absolute_form()
        super().on_headers_complete()
        self.scope["query_string"] = query  # of the same scope that the application, which has not begun yet, is given

    def _take_absolute_form(self) -> None:
        """`GET http://host/path`: the path goes on as usual, the host is for web/http/hosts.py to judge."""
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
        """Called once a second: ends what takes too long."""
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
        """Closes so that what the kernel still holds of the answer goes at once, and not when its patience ends."""
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
        """Answers instead of the application, unless it has begun to, and closes."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering and cycle.response_started:
            self.transport.abort()
            return
        if is_answering:
            cycle.disconnected = True  # the handler that reads the body is told that nobody is there any more
            cycle.message_event.set()
        if cycle is None or not cycle.response_complete or not self._is_in_body():
            self.transport.write(answer)
        self.transport.close()

    def lingers(self) -> bool:
        """Closing, with a request that is not read to its end: goes on reading for a moment. False where that is not so."""
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

    # --- how many

    def _make_room(self) -> None:
        """Of more connections than are allowed, the one goes that has kept us waiting longest. Where none has, this one is
        answered 503, unless it asks how we are."""
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
        """Nothing is being worked on: it is idle, its head has not come to its end, or its answer is not taken."""
        return self.is_lingering or self.cycle is None or self.cycle.response_complete

    @property
    def waiting_since(self) -> float:
        """The loop's time, roughly; an unfinished head counts before an idle connection."""
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
