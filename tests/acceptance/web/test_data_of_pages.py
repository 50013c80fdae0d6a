"""Each page of the site has its data at its own address, for a client that accepts JSON."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from everindex.articles.instance import Instance
from everindex.web.app import create_app, routes_of
from everindex.web.http.page_data import PAGES
from repository import REPOSITORY

JSON = {"accept": "application/json"}
HTML = {"accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
DOCUMENT = REPOSITORY / "docs" / "data-of-pages.md"
#: Addresses that are no page with data: what machines read, parts of pages, text of the documentation, the form to sign in.
WITHOUT_DATA = (
    r"/(api|static|manual|problems|doctor)(/.*)?|/(livez|readyz|metrics|openapi\.json)|/-/.*|/sign-in|/saved/.*\.rss"
    r"|.*/(proofs|report)|(/collections/[^/]+)?/index/.*"
)


def test_every_page_of_the_site_has_data_or_is_none(web_instance: Instance) -> None:
    paths = {path for method, path in routes_of(create_app(web_instance)) if method == "GET"}
    pages = {re.sub(r":path", "", path) for path in paths if not re.fullmatch(WITHOUT_DATA, path)}
    assert pages == set(PAGES)
    text = DOCUMENT.read_text(encoding="utf-8")
    for page, data in PAGES.items():
        assert f"| `{page}` | `{data}` |" in text, page


@pytest.mark.parametrize(
    ("page", "data"),
    [
        ("/", "/api/facets"),
        ("/?q=&category=", "/api/facets"),
        ("/?q=crash&k=3&category=", "/api/search?q=crash&k=3&group_duplicates=true"),
        ("/?q=crash&k=3&group=false", "/api/search?q=crash&k=3"),
        ("/?category=IDLE", "/api/search?category=IDLE&group_duplicates=true"),
        ("/saved", "/api/saved"),
        ("/incidents?status=open", "/api/incidents?status=open"),
        ("/collections", "/api/collections"),
        ("/docs", "/openapi.json"),
        ("/article?uri=nowhere", "/api/article?uri=nowhere"),
        ("/collections/nowhere?q=a", "/api/collections/nowhere/search?q=a"),
        ("/collections/nowhere/row?key=1", "/api/collections/nowhere/row?key=1"),
        ("/incident?incident_name=a&topic=b", "/api/incident?incident_name=a&topic=b"),
    ],
)
def test_a_page_asked_for_json_answers_as_the_api_does(client: httpx2.Client, page: str, data: str) -> None:
    answers = [client.get(address, headers=JSON) for address in (page, data)]
    assert answers[0].status_code == answers[1].status_code < 500
    assert answers[0].headers["content-type"] == answers[1].headers["content-type"]
    assert "Accept" in answers[0].headers["vary"]
    assert shape(answers[0].json()) == shape(answers[1].json())


def shape(document: Any) -> Any:
    """Without what differs from one request to the next."""
    if isinstance(document, dict):
        differing = ("elapsed_ms", "request_id", "timings", "took_ms", "ms")
        return {
            name: shape(value) for name, value in document.items() if name not in differing and not name.endswith("_ms")
        }
    return [shape(value) for value in document] if isinstance(document, list) else document


def test_a_row_of_a_page_and_what_is_similar_to_it_have_data(client: httpx2.Client) -> None:
    uri = client.get("/?q=crash&k=1", headers=JSON).json()["hits"][0]["uri"]
    assert client.get("/article", params={"uri": uri}, headers=JSON).json()["uri"] == uri
    assert len(client.get("/similar", params={"uri": uri, "k": 2}, headers=JSON).json()["hits"]) == 2
    assert client.get("/index", headers=JSON).json()["verification"]


@pytest.mark.parametrize("headers", [HTML, {"accept": "*/*"}, {}])
def test_whoever_accepts_html_or_says_nothing_gets_the_page(client: httpx2.Client, headers: dict[str, str]) -> None:
    page = client.get("/incidents", headers=headers)
    assert page.headers["content-type"].startswith("text/html")
    assert "Accept" in page.headers["vary"]


def test_only_reading_is_answered_with_data(client: httpx2.Client) -> None:
    assert client.post("/incidents", headers=JSON, json={}).status_code in (403, 415)
