"""Pages, a least similarity, variety and several searches at once, over HTTP and on the search page without a script."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import numpy as np
import pytest

from everindex.articles.instance import Instance

HTML = {"accept": "text/html"}


def uris(answer: dict[str, Any]) -> list[str]:
    return [hit["uri"] for hit in answer["hits"]]


@pytest.mark.parametrize("by_post", [False, True])
def test_the_next_cursor_of_an_answer_gives_the_page_after_it(client: httpx2.Client, by_post: bool) -> None:
    asked = {"category": "Library", "k": 6}
    after, seen = None, []
    for _ in range(4):
        more = {} if after is None else {"after": after}
        if by_post:
            answer = client.post("/api/search", json={"text": "memory leak", **asked, **more}).json()
        else:
            answer = client.get("/api/search", params={"q": "memory leak", **asked, **more}).json()
        seen += uris(answer)
        after = answer["next_cursor"]
    assert len(seen) == len(set(seen)) == 24


def test_a_vector_has_the_same_pages_by_get_and_by_post(client: httpx2.Client, web_instance: Instance) -> None:
    vector = [float(x) for x in web_instance.embed_query("crash on Windows")]
    first = client.post("/api/search", json={"vector": vector, "k": 5}).json()
    second = client.post("/api/search", json={"vector": vector, "k": 5, "after": first["next_cursor"]}).json()
    whole = web_instance.search_vector(np.array(vector, dtype=np.float32), k=10)
    assert uris(first) + uris(second) == [hit.uri for hit in whole.hits]


def test_a_cursor_of_another_search_is_a_problem_and_not_another_page(client: httpx2.Client) -> None:
    cursor = client.get("/api/search", params={"q": "memory leak"}).json()["next_cursor"]
    for params in (
        {"q": "crash", "after": cursor},
        {"q": "memory leak", "after": cursor[:-6]},
        {"q": "crash", "after": "\0"},
    ):
        refused = client.get("/api/search", params=params)
        assert refused.status_code == 409
        assert refused.json()["type"] == "/problems/cursor-refused"
        assert refused.json()["next"]


def test_a_least_similarity_and_variety_are_taken(client: httpx2.Client) -> None:
    plain = client.get("/api/search", params={"q": "memory leak", "k": 8}).json()
    least = sorted(hit["similarity"] for hit in plain["hits"])[3]
    cut = client.get("/api/search", params={"q": "memory leak", "k": 8, "min_similarity": least}).json()
    varied = client.post("/api/search", json={"text": "memory leak", "k": 8, "diversity": 0.8}).json()
    assert cut["hits"]
    assert all(hit["similarity"] >= least for hit in cut["hits"])
    assert varied["diversity"] == 0.8
    assert uris(varied)[0] == uris(plain)[0]
    assert uris(varied) != uris(plain)
    for wrong in ({"min_similarity": 2}, {"diversity": -1}, {"min_similarity": "nan"}, {"diversity": "much"}):
        assert client.get("/api/search", params={"q": "crash", **wrong}).status_code == 422


def test_similar_articles_take_the_same_options(client: httpx2.Client) -> None:
    uri = uris(client.get("/api/search", params={"q": "openssl installer", "k": 1}).json())[0]
    first = client.get("/api/similar", params={"uri": uri, "k": 5}).json()
    second = client.get("/api/similar", params={"uri": uri, "k": 5, "after": first["next_cursor"]}).json()
    distinct = client.get(
        "/api/similar",
        params={"uri": uri, "k": 5, "without_near_duplicates": True, "near_duplicate_distance": 0.25},
    ).json()
    assert not set(uris(first)) & set(uris(second))
    assert len(distinct["hits"]) == 5
    assert all(hit["distance"] >= 0.25 - 1e-6 for hit in distinct["hits"])
    assert (
        client.get(
            "/api/similar", params={"uri": uri, "near_duplicate_distance": 9, "without_near_duplicates": 1}
        ).status_code
        == 422
    )


def test_several_searches_are_answered_by_one_request(client: httpx2.Client, web_instance: Instance) -> None:
    texts = ["memory leak", "crash on Windows"]
    vectors = [[float(x) for x in web_instance.embed_query(text)] for text in texts]
    by_text = client.post("/api/search/many", json={"texts": texts, "k": 3, "category": "Library"}).json()["answers"]
    by_vector = client.post("/api/search/many", json={"vectors": vectors, "k": 3, "category": "Library"}).json()[
        "answers"
    ]
    assert len(by_text) == 2
    assert [uris(answer) for answer in by_text] == [uris(answer) for answer in by_vector]
    for text, answer in zip(texts, by_text, strict=True):
        alone = web_instance.search(text, mode="semantic", k=3, filters={"category": "Library"})
        assert uris(answer) == [hit.uri for hit in alone.hits]


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 422), ({"texts": ["a"], "vectors": [[1.0]]}, 422), ({"texts": [""]}, 422), ({"vectors": [[1.0, 2.0]]}, 409),
     ({"texts": ["a"] * 101}, 422), ({"texts": ["a"], "k": 0}, 422), ({"texts": [], "since": "never"}, 422)],
    ids=["neither", "both", "empty text", "wrong width", "too many", "k", "none, and no date"],
)  # fmt: skip
def test_several_searches_that_cannot_be_answered_are_refused(
    client: httpx2.Client, body: dict[str, Any], status: int
) -> None:
    assert client.post("/api/search/many", json=body).status_code == status


# --- the page -------------------------------------------------------------------------------------------------------


def links(page: str) -> dict[str, str]:
    """The links of the pages' navigation: text → address."""
    found = re.search(r'<nav class="pages".*?</nav>', page, re.DOTALL)
    return {} if found is None else {
        text: html.unescape(address) for address, text in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', found[0])
    }  # fmt: skip


def articles_of(page: str) -> list[str]:
    return re.findall(r'href="/article\?uri=([^"]+)"', page)


def test_the_search_page_leads_to_further_results_and_keeps_the_question(client: httpx2.Client) -> None:
    address = "/?q=memory+leak&category=Library&since=2016&k=5"
    shown: list[str] = []
    for number in range(3):
        page = client.get(address, headers=HTML).text
        shown += articles_of(page)
        assert 'value="memory leak"' in page
        assert '<option value="Library" selected>' in page
        assert ("First page" in links(page)) == (number > 0)
        address = links(page)["Next page"]
        asked = parse_qs(urlsplit(address).query)
        assert (asked["q"], asked["category"], asked["since"], asked["k"]) == (
            ["memory leak"],
            ["Library"],
            ["2016"],
            ["5"],
        )
    assert len(shown) == len(set(shown)) == 15
    first = client.get(links(page)["First page"], headers=HTML).text
    assert articles_of(first) == shown[:5]


@pytest.mark.parametrize("mode", ["semantic", "keyword"])
def test_further_results_are_found_in_the_same_mode(client: httpx2.Client, mode: str) -> None:
    first = client.get(f"/?q=memory+leak&mode={mode}&k=4", headers=HTML).text
    second = client.get(links(first)["Next page"], headers=HTML)
    assert second.status_code == 200
    assert not set(articles_of(first)) & set(articles_of(second.text))
    assert parse_qs(urlsplit(links(second.text)["Next page"]).query)["mode"] == [mode]


def test_the_last_page_has_no_more_and_says_so(client: httpx2.Client) -> None:
    page = client.get("/?q=crash&category=Security&k=1000", headers=HTML).text
    assert "Next page" not in page
    assert links(page) == {}


def test_results_while_writing_have_the_link_too(client: httpx2.Client) -> None:
    page = client.get("/?q=crash&k=3", headers={**HTML, "hx-request": "true"}).text
    assert "after=" in links(page)["Next page"]


def test_a_stale_link_is_told_beside_the_form(client: httpx2.Client) -> None:
    response = client.get("/?q=crash&after=stale", headers=HTML)
    assert response.status_code == 409
    assert "cursor cannot be read" in response.text
    assert 'name="q"' in response.text
