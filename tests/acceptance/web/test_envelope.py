"""Every request and response has its id, its headers, its line in the log, and an origin that may do what it asks."""

from __future__ import annotations

import io
import json
import logging
import re
import time

import httpx2
import pytest

from everindex.cli.logs import Rendered
from everindex.settings import Settings
from everindex.web.http.origin import is_cross_site

EVERYWHERE = [
    "/", "/?q=crash", "/article?uri=nowhere", "/incidents", "/index", "/index/proofs", "/docs", "/openapi.json", "/livez",
    "/readyz", "/-/versions", "/api/search?q=crash", "/api/facets", "/api/index", "/api/nothing", "/nothing",
    "/static/everindex.css", "/static/nothing.css",
]  # fmt: skip


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_every_answer_has_the_security_headers(client: httpx2.Client, path: str, accept: str) -> None:
    headers = client.get(path, headers={"accept": accept}).headers

    policy = headers["content-security-policy"]
    for directive in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'",
                      "frame-ancestors 'none'", "form-action 'self'", "connect-src 'self'"):  # fmt: skip
        assert directive in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-request-id"]
    assert "server" not in headers


def test_a_well_formed_request_id_is_taken_over_and_another_replaced(client: httpx2.Client) -> None:
    taken = client.get("/livez", headers={"x-request-id": "0a1b2c3d-trace"}).headers["x-request-id"]
    replaced = client.get("/livez", headers={"x-request-id": "a b;<script>"}).headers["x-request-id"]

    assert taken == "0a1b2c3d-trace"
    assert re.fullmatch(r"[0-9a-f]{32}", replaced)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines of the access log; they are written when the answer is out, which the client may have read before."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if lines := [record for record in caplog.records if record.name == "everindex.access"]:
            return lines
        time.sleep(0.01)
    return []


def test_the_access_log_has_one_line_without_the_query(client: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="everindex.access"):
        client.get("/api/search?q=a+private+matter", headers={"x-request-id": "log-line-1"})

        lines = access_lines(caplog)
    assert len(lines) == 1
    assert re.fullmatch(r"GET /api/search 200 \d+\.\d ms", lines[0].getMessage())
    assert vars(lines[0])["request_id"] == "log-line-1"


def test_a_line_break_in_an_address_makes_no_second_log_line(
    client: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="everindex.access"):
        client.get("/%0aGET%20/forged%20200")
        lines = access_lines(caplog)

    assert len(lines) == 1
    assert "\n" not in lines[0].getMessage()


def test_head_answers_as_get_without_a_body(client: httpx2.Client) -> None:
    for path in ("/", "/livez", "/docs", "/static/everindex.css"):
        response = client.head(path)
        assert response.status_code == 200
        assert response.content == b""


def test_assets_are_kept_for_ever_under_the_address_of_their_content(client: httpx2.Client) -> None:
    page = client.get("/").text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)

    assert len(addresses) == 5
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
        again = client.get(address, headers={"if-none-match": response.headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    ("headers", "is_rejected"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://site.example"}, True),
        ({"origin": "http://site.example"}, False),
        ({"origin": "https://site.example"}, False),
        ({"origin": "http://SITE.example"}, False),
        ({"origin": "http://site.example:81"}, True),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "http://site.example.evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "http://[broken"}, True),
        ({"origin": "file://site.example"}, True),
    ],
    ids=str,
)
def test_only_our_own_pages_change_something_through_a_browser(headers: dict[str, str], is_rejected: bool) -> None:
    given = {"host": "site.example", **headers}

    assert all(is_cross_site(method, given) is is_rejected for method in ("POST", "PATCH", "PUT", "DELETE"))
    assert not any(is_cross_site(method, given) for method in ("GET", "HEAD", "OPTIONS"))


@pytest.mark.parametrize("path", ["/incidents", "/incidents/status", "/index/verify", "/api/incidents", "/api/search"])
def test_a_post_of_another_site_is_refused_before_it_is_read(client: httpx2.Client, path: str) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        response = client.post(path, content=b"x", headers=headers)
        assert response.status_code == 403
        assert response.json()["type"] == "/problems/cross-site-refused"


def test_the_request_id_is_in_the_error_document_and_in_the_lines_that_the_request_causes(
    client: httpx2.Client,
) -> None:
    refused = client.get("/api/search?q=x&k=0", headers={"x-request-id": "from-the-client"})
    assert refused.json()["request_id"] == refused.headers["x-request-id"] == "from-the-client"
    log = logging.getLogger("everindex.search")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(Rendered(Settings(EVERINDEX_LOG_FORMAT="json")))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        client.get("/api/search?q=a+private+matter&mode=keyword", headers={"x-request-id": "deep-in-a-search"})
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    (line,) = [json.loads(text) for text in handler.stream.getvalue().splitlines()]
    assert line["event"] == "search-answered"
    assert line["request_id"] == "deep-in-a-search"
    assert (line["mode"], line["k"], line["level"]) == ("keyword", 10, "info")
    assert "private" not in json.dumps(line)
