"""Requests of any size and in any pieces are read within a limit, and answers leave whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from everindex.web.http.early_answers import MAX_HEAD_BYTES
from everindex.web.http.protocol import LINGER_BYTES

#: How large the kernel's buffers of both sides may grow while the server is not at its turn.
KERNEL_BYTES = sum(
    int(Path(f"/proc/sys/net/ipv4/{name}").read_text(encoding="ascii").split()[-1]) for name in ("tcp_rmem", "tcp_wmem")
)
#: What a client can send before it notices that the server has refused it.
REFUSED_BYTES = 2 * (MAX_HEAD_BYTES + LINGER_BYTES) + KERNEL_BYTES


@pytest.fixture
def connection(web_url: str) -> Iterator[socket.socket]:
    parts = urlsplit(web_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as opened:
        yield opened


def answer_of(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of the next answer."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += connection.recv(65536) or pytest.fail(f"closed after {content!r}")
    head, _, body = content.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def sent_until_closed(connection: socket.socket, piece: bytes, *, most: int) -> int:
    """How many bytes the server takes before it closes."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            sent += connection.send(piece)
    return sent


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET /livez?", b"GET /livez HTTP/1.1\r\nx-long: "], ids=["path", "query", "header"]
)
def test_a_head_without_an_end_is_refused_after_half_a_megabyte(connection: socket.socket, begin: bytes) -> None:
    connection.sendall(begin)
    assert sent_until_closed(connection, b"a" * 65536, most=2 * REFUSED_BYTES) < REFUSED_BYTES


def test_who_reads_is_told_that_the_head_was_too_large(connection: socket.socket) -> None:
    connection.sendall(b"GET /livez HTTP/1.1\r\nx-long: " + b"a" * (MAX_HEAD_BYTES + 1))
    head, body = answer_of(connection)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert str(MAX_HEAD_BYTES).encode() in body
    assert connection.recv(10) == b""


def test_trailers_without_an_end_are_refused_too(connection: socket.socket) -> None:
    connection.sendall(b"POST /api/search HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
    piece = b"x: " + b"a" * 10_000 + b"\r\n"
    assert sent_until_closed(connection, piece, most=2 * REFUSED_BYTES) < REFUSED_BYTES


def test_a_body_of_many_pieces_is_no_head(connection: socket.socket) -> None:
    body = b'{"text": "' + b"a" * 900_000 + b'"}'
    connection.sendall(b"POST /api/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    connection.sendall(b"content-length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), 1000):
        connection.sendall(body[start : start + 1000])
    head, _ = answer_of(connection)
    assert head.startswith(b"HTTP/1.1 422 ")  # a text of that length is no query, which is not the head's fault


def test_a_request_that_comes_byte_by_byte_is_answered(connection: socket.socket) -> None:
    for byte in b"GET /api/search?q=crash&k=1&mode=keyword HTTP/1.1\r\nhost: localhost\r\n\r\n":
        connection.sendall(bytes([byte]))
    head, body = answer_of(connection)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b'"mode":"keyword"' in body


def test_requests_sent_at_once_are_answered_one_after_the_other(connection: socket.socket) -> None:
    one = b"GET /api/search?q=crash&mode=keyword&k=%d HTTP/1.1\r\nhost: localhost\r\n\r\n"
    connection.sendall(b"".join(one % k for k in (1, 2, 3)))
    content = b""
    while content.count(b'"next_cursor"') < 3:
        content += connection.recv(65536) or pytest.fail("closed")
    places = [content.index(b'"k":%d,' % k) for k in (1, 2, 3)]
    assert places == sorted(places)


def test_a_short_answer_comes_in_one_piece(connection: socket.socket) -> None:
    for _ in range(20):
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        content = connection.recv(65536)
        head, _, body = content.partition(b"\r\n\r\n")
        assert len(body) == int(head.lower().partition(b"content-length:")[2].split()[0])


def test_who_asks_for_another_protocol_is_answered_in_this_one(connection: socket.socket) -> None:
    connection.sendall(
        b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\n\r\n"
    )
    assert answer_of(connection)[0].startswith(b"HTTP/1.1 200 ")


def test_a_client_that_goes_in_the_middle_of_its_request_disturbs_nobody(web_url: str) -> None:
    parts = urlsplit(web_url)
    for begun in (
        b"G",
        b"GET /api/search?q=cra",
        b"POST /api/search HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
    ):
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as gone:
            gone.sendall(begun)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as there:
        there.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert answer_of(there)[0].startswith(b"HTTP/1.1 200 ")
