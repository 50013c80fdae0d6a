"""The three ways of searching over HTTP and on the page: chosen without a script, shown safely, never guessed."""

from __future__ import annotations

import base64
import html
import re

import httpx2
import numpy as np
import pytest

from everindex.articles.instance import Instance
from everindex.articles.model import MODES

TEXT = "memory leak in the parser"


@pytest.mark.parametrize("mode", MODES)
def test_get_and_post_give_what_the_instance_gives(client: httpx2.Client, web_instance: Instance, mode: str) -> None:
    expected = web_instance.search(TEXT, mode=mode, k=5)  # type: ignore[arg-type]
    by_get = client.get("/api/search", params={"q": TEXT, "mode": mode, "k": 5}).json()
    by_post = client.post("/api/search", json={"text": TEXT, "mode": mode, "k": 5}).json()
    assert by_get["hits"] == by_post["hits"] == [hit.as_dict() for hit in expected.hits]
    assert by_get["mode"] == by_post["mode"] == mode


def test_without_a_mode_a_text_is_searched_both_ways_and_a_vector_by_meaning(
    client: httpx2.Client, web_instance: Instance
) -> None:
    assert client.get("/api/search", params={"q": TEXT}).json()["mode"] == "hybrid"
    vector = web_instance.embed_query(TEXT)
    encoded = base64.urlsafe_b64encode(vector.astype("<f4").tobytes()).decode()
    for answer in (
        client.get("/api/search", params={"vector": encoded}),
        client.get("/api/search", params={"vector": encoded, "mode": "semantic"}),
        client.post("/api/search", json={"vector": [float(number) for number in vector]}),
    ):
        assert answer.json()["mode"] == "semantic"
        assert np.allclose([hit["distance"] for hit in answer.json()["hits"]], sorted(
            hit["distance"] for hit in answer.json()["hits"]
        ))  # fmt: skip


@pytest.mark.parametrize("mode", ["hybrid", "keyword"])
def test_a_vector_has_no_words(client: httpx2.Client, web_instance: Instance, mode: str) -> None:
    vector = [float(number) for number in web_instance.embed_query(TEXT)]
    refused = client.post("/api/search", json={"vector": vector, "mode": mode})
    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/query-inapplicable"
    assert mode in refused.json()["title"]


@pytest.mark.parametrize("mode", ["both", "", "KEYWORD", "<script>"])
def test_a_mode_that_there_is_not_is_refused(client: httpx2.Client, mode: str) -> None:
    for refused in (
        client.get("/api/search", params={"q": TEXT, "mode": mode}),
        client.post("/api/search", json={"text": TEXT, "mode": mode}),
    ):
        assert refused.status_code == 422, refused.text
        assert refused.headers["content-type"] == "application/problem+json"
    if mode:
        page = client.get("/", params={"q": TEXT, "mode": mode})
        assert page.status_code == 422
        assert "There is no search mode" in page.text
        assert "<script>'" not in page.text


def test_the_api_describes_the_modes(client: httpx2.Client) -> None:
    described = client.get("/openapi.json").json()
    parameters = {one["name"]: one for one in described["paths"]["/api/search"]["get"]["parameters"]}
    assert set(MODES) <= set(re.findall("[a-z]+", str(parameters["mode"])))
    hit = described["components"]["schemas"]["HitOut"]["properties"]
    assert {"snippet", "title_snippet", "semantic_rank", "keyword_rank", "score", "distance"} <= set(hit)
    assert "mode" in client.get("/docs").text


@pytest.mark.parametrize("mode", MODES)
def test_the_page_offers_the_modes_and_keeps_the_one_that_was_chosen(client: httpx2.Client, mode: str) -> None:
    page = client.get("/", params={"q": TEXT, "mode": mode}).text
    radios = re.findall(r'<input type="radio" name="mode" value="(\w+)"( checked)?>', page)
    assert {name for name, _ in radios} == set(MODES)
    assert [name for name, checked in radios if checked] == [mode]
    assert "<fieldset" in page
    assert "<legend" in page
    fragment = client.get("/", params={"q": TEXT, "mode": mode}, headers={"HX-Request": "true"})
    assert fragment.headers["HX-Push-Url"].endswith("mode=" + mode) == (mode != "hybrid")


def test_found_words_stand_out_and_how_each_was_found_is_said(client: httpx2.Client) -> None:
    page = client.get("/", params={"q": "memory leak parser"}).text
    assert "<mark>memory</mark> <mark>leak</mark>" in page
    assert "by meaning and words" in page
    assert re.search(r"meaning #\d+ · words #\d+", page)
    by_words = client.get("/", params={"q": "memory leak parser", "mode": "keyword"}).text
    assert "· by words" in " ".join(by_words.split())
    assert 'class="similarity"' not in by_words
    by_meaning = client.get("/", params={"q": "memory leak parser", "mode": "semantic"}).text
    assert "<mark>" not in by_meaning


def test_words_that_no_article_has_lead_to_a_search_by_meaning(client: httpx2.Client) -> None:
    page = client.get("/", params={"q": "qqqzzz", "mode": "keyword"}).text
    assert "No article contains these words" in page
    assert 'href="/?q=qqqzzz"' in page
    stop_words = client.get("/", params={"q": "the of", "mode": "keyword"}).text
    assert "No word of the query can be searched for by keyword" in stop_words


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_hostile_articles_and_queries_run_nothing_in_a_snippet(client: httpx2.Client, mode: str) -> None:
    for query in (
        "hostile",
        "hostile script",
        "<script>window.hacked=1</script> hostile",
        '"><img src=x onerror=1> hostile',
    ):
        answer = client.get("/", params={"q": query, "mode": mode, "k": 40})
        assert answer.status_code == 200
        # An open quote makes one phrase of the rest, which no article has.
        assert "<mark>hostile</mark>" in answer.text or (mode == "keyword" and "onerror" in query)
        allowed = re.sub(r"</?mark>", "", answer.text)
        assert "<script>window" not in allowed
        assert "<img" not in allowed
        assert "<svg/onload" not in allowed
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        for hit in client.get("/api/search", params={"q": query, "mode": mode, "k": 40}).json()["hits"]:
            for snippet in (hit["title_snippet"], hit["snippet"]):
                assert snippet is None or not re.search("<(?!/?mark>)", snippet)
                assert snippet is None or html.unescape(snippet)
