"""Clients that are slow, greedy or many end at a limit of their own, and the probe answers in time meanwhile."""

from __future__ import annotations

import json
import logging
import select
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest

from attacked import answer_to, connected, get, probed, rest_of, server_process, together
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.settings import Settings
from everindex.web.api import answers
from everindex.web.http import protocol
from everindex.web.pages import manual
from everindex.web.serving import serve_in_thread
from words_in_memory import remembered

Address = tuple[str, int]
#: The promise is 100 ms. Here eight test processes may share two cores, and a probe waits for its turn like everybody.
PROBE_SECONDS, LONGEST_PROBE_SECONDS = 0.25, 1.5


def post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def problem_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"content-security-policy" in head
    return int(head.split()[1]), json.loads(body)["type"].removeprefix("/problems/")


@pytest.fixture
def address(web_url: str) -> Address:
    parts = urlsplit(web_url)
    return str(parts.hostname), int(parts.port or 0)


@pytest.fixture(scope="module")
def process(web_instance: Instance) -> Iterator[tuple[Address, int]]:
    with server_process(web_instance.conninfo) as started:
        yield started


MANY = post("/api/search/many", json.dumps({"texts": [f"crash {n}" for n in range(100)], "k": 100}).encode())
LONG = post("/api/search/many", json.dumps({"vectors": [[0.123456789] * 1536] * 40, "k": 1}).encode())
ATTACKS: dict[str, Callable[[int], bytes]] = {
    "long pages": lambda n: get(f"/?q=crash+{n}&k=1000"),
    "long answers": lambda n: get(f"/api/search?q=crash+{n}&k=1000"),
    "pages": lambda n: get(f"/?q=leak+{n}") ,
    "reference": lambda n: get("/docs"),
    "manual": lambda n: get(f"/problems/{manual.names('problems')[n]}"),
    "many searches": lambda n: MANY,
    "long bodies": lambda n: LONG,
}  # fmt: skip


#: Eight of each kind that takes long to compute, to read or to send; sixty of every kind in the long campaign.
SHORT_ATTACKS = [(attack, 8) for attack in ("long pages", "many searches", "long bodies")]


@pytest.mark.parametrize(
    ("attack", "count"), [*SHORT_ATTACKS, *(pytest.param(attack, 60, marks=pytest.mark.long) for attack in ATTACKS)]
)
def test_the_probe_answers_in_time_whatever_else_is_asked(
    process: tuple[Address, int], attack: str, count: int
) -> None:
    address, _ = process
    statuses: list[bytes] = []

    def ask(number: int) -> None:
        with connected(address, ATTACKS[attack](number)) as opened:
            statuses.append(opened.recv(1 << 20)[9:12])

    with probed(address) as found:
        for thread in together(count, ask):
            thread.join()

    assert not found.failures
    assert set(statuses) <= {b"200", b"503"}
    assert found.at(0.9) < PROBE_SECONDS, sorted(found.seconds)[-20:]
    assert max(found.seconds) < LONGEST_PROBE_SECONDS


def test_the_probe_answers_beside_hundreds_of_half_open_requests_and_readers_of_nothing(
    process: tuple[Address, int],
) -> None:
    address, _ = process
    begun = [connected(address, b"GET /livez HTTP/1.1\r\nhost: loc") for _ in range(520)]
    unread = [connected(address, get("/api/search?q=crash&k=1000")) for _ in range(10)]
    with probed(address) as found:
        assert b'"hits"' in answer_to(address, get("/api/search?q=crash"))
    for each in (*begun, *unread):
        each.close()

    assert not found.failures
    assert found.at(0.9) < PROBE_SECONDS
    assert max(found.seconds) < LONGEST_PROBE_SECONDS


@pytest.mark.parametrize(
    ("begin", "slug"),
    [
        (b"G", "head"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\n", "head"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET /liv", "head"),
        (b"\r\n", "nothing"),
        (b"", "nothing"),
        (post("/api/search", b'{"text": ', length=100), "body"),
        (post("/api/search", b"", length=100), "body"),
        (b"POST /api/search HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
         b"transfer-encoding: chunked\r\n\r\n5\r\n{\"tex", "body"),
    ],
    ids=lambda value: value[:40] if isinstance(value, bytes) else value,
)  # fmt: skip
def test_a_request_that_does_not_come_to_its_end_is_given_up(
    address: Address, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, begin: bytes, slug: str
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.3)
    with caplog.at_level(logging.INFO), connected(address, begin) as opened:
        answer = rest_of(opened)
    if slug == "nothing":
        assert answer == b""
    else:
        last = answer[answer.rindex(b"HTTP/1.1") :]
        assert problem_of(last) == (408, "request-timed-out")
        assert f"its {slug}".encode() in last
        assert answer.count(b"HTTP/1.1") == 1 + begin.count(b"\r\n\r\nGET")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_who_sends_a_byte_now_and_then_is_given_up_all_the_same(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with connected(address, b"GET /livez HTTP/1.1\r\nx-drip: ") as opened:
        until = time.monotonic() + 20
        while not select.select([opened], [], [], 0.05)[0]:
            assert time.monotonic() < until
            opened.sendall(b"a")
        assert opened.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_slow_request_that_comes_in_time_is_answered(address: Address) -> None:
    with connected(address, post("/api/search", b'{"text"', length=17)) as opened:
        for byte in b': "crash"}':
            opened.sendall(bytes([byte]))
        assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_answer_that_is_not_taken_is_given_up(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_SECONDS", 0.5)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(30)
    slow.connect(address)
    with slow:
        slow.sendall(MANY)  # some 5 MB, more than the buffers of both sides
        poll = select.poll()
        poll.register(slow, select.POLLERR)  # the reset, without reading a byte
        assert poll.poll(30_000)


def test_an_upload_that_is_too_long_is_told_so_before_it_ends(address: Address) -> None:
    with connected(address, post("/api/search", b"", length=100_000_000)) as opened:
        assert opened.recv(65536).startswith(b"HTTP/1.1 413 ")
    with connected(address, post("/api/search", b" " * 2_000_000)) as opened:  # and who sends first and reads then
        assert problem_of(rest_of(opened)) == (413, "body-too-large")


@pytest.fixture
def few(web_instance: Instance) -> Iterator[Address]:
    """A server that takes ten connections."""
    settings = Settings().model_copy(update={"max_connections": 10})
    with connect_instance(web_instance.conninfo, settings=settings) as instance, serve_in_thread(instance) as url:
        parts = urlsplit(url)
        yield str(parts.hostname), int(parts.port or 0)


def test_beyond_the_limit_who_kept_the_server_waiting_longest_goes(few: Address) -> None:
    begun = []
    for number in range(30):
        begun.append(connected(few, b"GET /livez HTTP/1.1\r\nhost: loc"))
        if number % 10 == 0:
            assert b" 200 " in answer_to(few, get("/livez"))[:20]
    closed: list[socket.socket] = []
    until = time.monotonic() + 20
    while len(closed) < 20:
        assert time.monotonic() < until
        closed = select.select(begun, [], [], 0.05)[0]
    assert begun[-1] not in closed
    begun[-1].sendall(b"alhost\r\n\r\n")
    assert begun[-1].recv(65536).startswith(b"HTTP/1.1 200 ")
    for each in begun:
        each.close()


def test_where_all_wait_for_answers_a_new_one_is_told_and_the_probe_answered(
    few: Address, web_instance: Instance
) -> None:
    with psycopg.connect(web_instance.conninfo) as holding:
        holding.execute("LOCK TABLE incident_status IN ACCESS EXCLUSIVE MODE")
        waiting = [connected(few, get("/api/incidents")) for _ in range(10)]
        until = time.monotonic() + 20
        while b" 503 " not in (answer := answer_to(few, get("/api/search?q=crash")))[:20]:
            assert time.monotonic() < until
        assert problem_of(answer) == (503, "server-busy")
        assert b"retry-after" in answer
        assert b" 200 " in answer_to(few, get("/livez"))[:20]
        assert b" 200 " in answer_to(few, get("/readyz"))[:20]
        holding.rollback()
    answered = [rest_of(each)[9:12] for each in waiting]
    for each in waiting:
        each.close()
    assert set(answered) == {b"200"}


def test_an_answer_has_an_end(client: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = client.post("/api/search/many", json={"texts": ["crash"] * 100, "k": 101})
    assert refused.status_code == 413
    assert refused.json()["type"] == "/problems/answer-too-large"
    assert client.post("/api/search/many", json={"texts": ["crash"] * 100, "k": 1001}).status_code == 422
    monkeypatch.setattr(answers, "MAX_ANSWER_BYTES", 100_000)
    refused = client.get("/api/search?q=crash&k=1000")
    assert refused.status_code == 413
    assert refused.json()["type"] == "/problems/answer-too-large"
    assert client.get("/api/search?q=crash&k=100").status_code == 200


def test_a_long_answer_is_the_same_in_pieces(client: httpx2.Client, web_instance: Instance) -> None:
    remembered(web_instance)  # the last digits of a score depend on whether the words are in memory
    taken = client.get("/api/search?q=crash&k=1000").json()
    assert len(taken["hits"]) == 1000
    told = web_instance.search("crash", k=1000).as_dict()
    changing = {"elapsed_ms": taken["elapsed_ms"]}
    assert taken == json.loads(json.dumps(told)) | changing
    assert list(taken) == list(told)
    many = client.post("/api/search/many", json={"texts": ["crash", "leak"], "k": 500}).json()["answers"]
    told = web_instance.search("leak", k=500, mode="semantic").as_dict()
    assert [len(each["hits"]) for each in many] == [500, 500]
    assert [hit["uri"] for hit in many[1]["hits"]] == [hit["uri"] for hit in told["hits"]]


GONE = [
    post("/api/search", b'{"text": ', length=1000),
    post("/api/search/many", b"[", length=1000),
    post("/api/incidents", b'{"incident_name"', length=1000),
    post("/incidents", b"incident_name=", length=1000).replace(b"application/json", b"application/x-www-form-urlencoded"),
    post("/incidents/status", b"x=", length=1000).replace(b"application/json", b"application/x-www-form-urlencoded"),
    post("/api/incidents", b"{", length=1000).replace(b"POST", b"PATCH"),
    post("/index/verify", b"x", length=1000),
    *(get(path) for path in ("/?q=crash&k=1000", "/api/search?q=crash&k=1000", "/api/facets", "/index", "/docs", "/openapi.json",
                             "/static/vendor/htmx.min.js", "/readyz", "/api/index", "/incidents", "/nothing")),
    MANY,
]  # fmt: skip


@pytest.mark.parametrize("request_", GONE, ids=lambda value: value[:30].decode())
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_goes_away_is_a_line_in_the_access_log_at_most(
    address: Address, caplog: pytest.LogCaptureFixture, request_: bytes, is_reset: bool
) -> None:
    def lines() -> list[str]:
        told = [record.getMessage() for record in caplog.records if record.name == "everindex.access"]
        return [line for line in told if "/livez" not in line]

    with caplog.at_level(logging.INFO):
        gone = connected(address, request_)
        if is_reset:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
        until = time.monotonic() + 20
        while not lines():
            assert time.monotonic() < until
            answer_to(address, get("/livez"))
    assert len(lines()) == 1
    told = [record for record in caplog.records if record.name != "everindex.search"]  # a slow search is told there
    assert not [record.getMessage() for record in told if record.levelno >= logging.WARNING or record.exc_info]
