"""What cannot be answered is refused in words: never a status 500, never a stack trace."""

from __future__ import annotations

import http.client
import json
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from everindex.articles.instance import Instance
from everindex.web import serving

JSON = {"content-type": "application/json"}


def sent_as_it_is(web_url: str, target: bytes, accept: bytes = b"*/*") -> httpx2.Response:
    """The answer to a request line that no client would send: nothing is escaped, nothing is too long."""
    parts = urlsplit(web_url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30) as connection:
        connection.sendall(
            b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: " + accept + b"\r\n\r\n"
        )
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def assert_problem(response: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert set(problem) - {"request_id"} == {"type", "title", "status", "detail", "next"}
    assert problem.get("request_id") == response.headers.get("x-request-id")
    assert problem["type"] == f"/problems/{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["next"]
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    return problem


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("q=", "query-inapplicable"),
        ("", "query-inapplicable"),
        ("q=%20%09", "query-inapplicable"),
        ("q=%00", "query-inapplicable"),
        ("q=%19", "query-inapplicable"),
        ("q=crash&vector=AAAAAA==", "query-inapplicable"),
        ("q=crash&since=0000", "query-invalid"),
        ("q=crash&until=2023-02-29", "query-invalid"),
        ("q=crash&k=0", "query-invalid"),
        ("q=crash&k=-1", "query-invalid"),
        ("q=crash&k=1001", "query-invalid"),
        ("q=crash&k=99999999999999999999999", "query-invalid"),
        ("q=crash&k=ten", "bad-input"),
        ("q=crash&k=", "bad-input"),
        ("q=crash&exact=perhaps", "bad-input"),
        ("q=crash&ef_search=0", "query-invalid"),
        ("q=crash&ef_search=1001", "query-invalid"),
        ("q=crash&since=yesterday", "query-invalid"),
        ("q=crash&until=2023-13-45", "query-invalid"),
        ("q=crash&category=%00", "query-invalid"),
        ("q=crash&category=" + "x" * 600, "query-invalid"),
        ("q=" + "a" * 100_000, "query-invalid"),
        ("q=" + "%C3%A9" * 30_000, "query-invalid"),
    ],
    ids=lambda value: value[:40],
)
def test_a_search_that_cannot_be_answered_says_why(web_url: str, query: str, slug: str) -> None:
    status = 409 if slug == "query-inapplicable" else 422
    assert_problem(sent_as_it_is(web_url, f"/api/search?{query}".encode()), status, slug)


@pytest.mark.parametrize(
    "query",
    [b"q=crash%00windows", b"q=%ff%fe", b"q=%", b"q=%zz", b"q=%ED%A0%80", "q=🐍".encode(), b"q=\xff\xfe",
     b"q=crash&topic=%ff", b"q=crash&category=\xff", b"q='%20OR%201=1--", b"q=crash&unknown=1", b"q=crash&q=leak",
     b"&&&q=crash&=&", b"q=crash&" + b"a=1&" * 5000, b"q=crash?/#<>\"{}|^`"],
    ids=lambda value: str(value[:30]),
)  # fmt: skip
def test_strange_bytes_in_a_search_are_only_text(web_url: str, query: bytes) -> None:
    for path, accept in ((b"/api/search?", b"*/*"), (b"/?", b"text/html")):
        response = sent_as_it_is(web_url, path + query, accept)
        assert response.status_code in (200, 422, 409, 400), response.text
        assert "Traceback" not in response.text


def test_a_request_line_that_is_no_http_or_endless_is_refused(web_url: str) -> None:
    assert_problem(sent_as_it_is(web_url, b"/ with spaces"), 400, "request-malformed")
    assert_problem(sent_as_it_is(web_url, b"/" + b"x" * 600_000), 431, "head-too-large")


@pytest.mark.parametrize("path", ["/api/article", "/api/similar"])
def test_an_unknown_article_is_not_found(client: httpx2.Client, path: str) -> None:
    assert_problem(client.get(path, params={"uri": "https://nowhere.example/"}), 404, "article-not-found")
    assert_problem(client.get(f"{path}?uri=%00"), 404, "article-not-found")
    assert_problem(client.get(f"{path}?uri=%ff"), 404, "article-not-found")
    assert_problem(client.get(f"{path}?uri=" + "x" * 50_000), 404, "article-not-found")
    assert_problem(client.get(path), 422, "bad-input")


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"", "bad-input"),
        (b"{", "bad-input"),
        (b"\xff\xfe", "bad-input"),
        (b"[]", "bad-input"),
        (b"null", "bad-input"),
        (b"{}", "bad-input"),
        (b'{"text": "a", "vector": [1]}', "bad-input"),
        (b'{"text": 1}', "bad-input"),
        (b'{"text": "\\ud800"}', "bad-input"),
        (b'{"text": "crash", "limit": 5}', "bad-input"),
        (b'{"vector": []}', "query-inapplicable"),
        (b'{"vector": [1, 2, 3]}', "query-inapplicable"),
        (b'{"text": "crash", "k": true}', "bad-input"),
        (b'{"text": "crash", "k": "10"}', "bad-input"),
        (b'{"text": "crash", "k": 9.5}', "bad-input"),
        (b'{"text": "crash", "min_similarity": false}', "bad-input"),
        (b'{"text": "crash", "exact": "yes"}', "bad-input"),
        (b'{"text": "\\u0019"}', "query-invalid"),
        (b'{"text": "", "category": "Library"}', "query-invalid"),
        (b'{"text": "-crash", "mode": "semantic", "after": "x"}', "cursor-refused"),
        (b'{"vector": ["a"]}', "bad-input"),
        (b'{"vector": [NaN]}', "query-invalid"),
        (b'{"vector": [1e999]}', "query-invalid"),
        (b'{"vector": [1e300]}', "query-invalid"),
        (b'{"text": "crash", "k": 1001}', "query-invalid"),
        (b"[" * 100_000, "bad-input"),
        (json.dumps({"vector": [0.0] * 1536}).encode(), "query-inapplicable"),
        (json.dumps({"vector": [1.0] * 20_000}).encode(), "query-inapplicable"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_a_body_that_cannot_be_read_says_why(client: httpx2.Client, body: bytes, slug: str) -> None:
    status = 409 if slug in ("query-inapplicable", "cursor-refused") else 422
    assert_problem(client.post("/api/search", content=body, headers=JSON), status, slug)


def test_a_whole_number_may_be_written_with_a_point(client: httpx2.Client) -> None:
    assert client.post("/api/search", json={"text": "crash", "k": 3.0}).json()["k"] == 3


def test_a_body_of_another_type_is_refused(client: httpx2.Client) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {"content-type": content_type}
        assert_problem(client.post("/api/search", content=b"{}", headers=headers), 415, "content-type-refused")
        assert_problem(client.post("/api/incidents", content=b"{}", headers=headers), 415, "content-type-refused")
    assert_problem(client.post("/incidents", json={"incident_name": "a"}), 415, "content-type-refused")


def test_a_body_beyond_one_megabyte_is_refused_announced_or_not(client: httpx2.Client) -> None:
    def chunks() -> Any:
        for _ in range(30):
            yield b" " * 50_000

    assert_problem(client.post("/api/search", content=b" " * 1_000_001, headers=JSON), 413, "body-too-large")
    assert_problem(client.post("/api/search", content=chunks(), headers=JSON), 413, "body-too-large")
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"incident_name": "", "topic": "x"},
        {"incident_name": "x" * 201, "topic": "x"},
        {"incident_name": "a\0b", "topic": "x"},
        {"incident_name": "\x19", "topic": "x"},
        {"incident_name": "x" + " " * 200, "topic": "x"},
        {"incident_name": "x"},
        {"incident_name": "x", "topic": "x", "status": "gone"},
    ],
)
def test_an_incident_that_cannot_be_made_says_why(client: httpx2.Client, body: dict[str, str]) -> None:
    response = client.post("/api/incidents", json=body)

    assert response.status_code == 422
    assert response.json()["next"]


def test_an_unknown_incident_is_not_found(client: httpx2.Client) -> None:
    body = {"incident_name": "never", "topic": "seen", "status": "resolved"}

    assert_problem(client.patch("/api/incidents", json=body), 404, "incident-not-found")


def test_an_unknown_address_and_a_wrong_method_are_told_as_such(client: httpx2.Client) -> None:
    assert_problem(client.get("/api/nothing"), 404, "page-not-found")
    assert_problem(client.get("/static/..%2f..%2fapp.py"), 404, "page-not-found")
    assert_problem(client.get("/static/%00"), 404, "page-not-found")
    assert_problem(client.get("/%ff%00"), 404, "page-not-found")
    for path, allowed in {
        "/api/incidents": {"GET", "POST", "PATCH"}, "/api/search": {"GET", "POST"}, "/api/search/many": {"POST"},
        "/livez": {"GET"}, "/incidents": {"GET", "POST"}, "/index/verify": {"POST"},
    }.items():  # fmt: skip
        refused = client.delete(path)
        assert_problem(refused, 405, "method-refused")
        assert set(refused.headers["allow"].split(", ")) - {"HEAD"} == allowed


def test_a_browser_gets_the_error_as_a_page_with_the_request_id(client: httpx2.Client) -> None:
    response = client.get("/article?uri=nowhere", headers={"accept": "text/html", "x-request-id": "abcdefgh-1"})

    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "There is no article" in response.text
    assert "abcdefgh-1" in response.text
    assert "Back to search" in response.text


def test_a_fault_of_the_program_is_logged_and_tells_nothing_of_the_inside(
    web_instance: Instance, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(uri: str) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(web_instance, "article", fault)
    with caplog.at_level(logging.ERROR), serving.serve_in_thread(web_instance) as url:
        as_json = httpx2.get(f"{url}/api/article?uri=x")
        as_page = httpx2.get(f"{url}/article?uri=x", headers={"accept": "text/html"})

    problem = assert_problem(as_json, 500, "internal")
    assert as_json.headers["x-request-id"] in problem["detail"]
    assert as_page.status_code == 500
    assert "the secret" not in as_json.text + as_page.text
    assert "the secret is 42" in caplog.text
    assert as_json.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("vector", ["A", "AAAA", "****", "AAAAAA==", "AACAfw", "\u00e9", "AAAA" * 5000])
def test_a_vector_in_the_address_that_is_none_is_refused_in_words(client: httpx2.Client, vector: str) -> None:
    response = client.get("/api/search", params={"vector": vector})
    told = (422, "/problems/query-invalid"), (409, "/problems/query-inapplicable")
    assert (response.status_code, response.json()["type"]) == told[
        vector.startswith(("AAAAAA==", "AACAfw", "AAAA" * 5000))
    ]
