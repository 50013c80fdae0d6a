"""The passage of a whole text over HTTP and on the pages: where it stands, marked, and never as markup of its own."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import MODES, Article
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from templates import migrate
from whole_texts import digests, of_article, whole_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "The pangolin <script>window.hacked=1</script> curls up & sleeps."


@pytest.fixture(scope="module")
def instance(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database(cluster.template("at_head", migrate))
    with connect_instance(conninfo, settings=Settings()) as opened:
        opened.upsert([*digests(6), Article(uri="hostile", title="A", summary="B", raw_text=HOSTILE)])
        yield opened
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def url(instance: Instance) -> Iterator[str]:
    with serve_in_thread(instance) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=30) as opened:
        yield opened


def test_a_row_of_a_collection_shows_the_passage_that_a_result_links_to(
    client: httpx2.Client, instance: Instance
) -> None:
    docs = instance.collection("docs", dim=1536, text=("title", "body"), passages="body")
    docs.upsert([{"id": str(n), "title": "Weekly digest", "body": whole_text(n)} for n in range(3)])
    item = of_article(2)[4]
    page = client.get("/collections/docs", params={"q": item}).text
    link = re.search(r'href="(/collections/docs/row\?[^"]*start=[^"]*)"', page)
    assert link is not None
    row = client.get(html.unescape(link[1]).removesuffix("#passage")).text
    marked = re.search(r'<mark id="passage">(.*?)</mark>', row, re.S)
    assert marked is not None
    assert html.unescape(marked[1]) in whole_text(2)
    assert item[:30] in html.unescape(marked[1])
    hit = client.get("/api/collections/docs/search", params={"q": item}).json()["hits"][0]
    assert hit["passage"]["text"] == html.unescape(marked[1])


@pytest.mark.parametrize("mode", MODES)
def test_get_and_post_give_the_passage_that_the_instance_gives(
    client: httpx2.Client, instance: Instance, mode: str
) -> None:
    text = of_article(3)[4]
    expected = instance.search(text, mode=mode, k=3).hits[0].passage  # type: ignore[arg-type]
    assert expected is not None
    by_get = client.get("/api/search", params={"q": text, "mode": mode, "k": 3}).json()["hits"][0]
    by_post = client.post("/api/search", json={"text": text, "mode": mode, "k": 3}).json()["hits"][0]
    assert by_get["passage"] == by_post["passage"] == expected.as_dict()
    assert by_get["uri"] == "digest/3"


def test_the_schema_of_a_hit_has_the_passage(client: httpx2.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas["PassageOut"]["required"]) == set(
        instance_keys := ("text", "start", "end", "number", "count", "distance", "snippet")
    ), instance_keys
    assert "passage" in schemas["HitOut"]["required"]


def test_the_page_shows_the_passage_and_its_link_marks_it_in_the_full_text(client: httpx2.Client) -> None:
    text = of_article(2)[5]
    page = client.get("/", params={"q": text}).text
    shown = re.search(r'<p class="passage">(.*?)<a href="([^"]+)#passage">passage (\d+) of (\d+)', page, re.DOTALL)
    assert shown is not None
    assert "<mark>" in shown[1]
    article = client.get(html.unescape(shown[2])).text
    marked = re.search(r'<mark id="passage">(.*?)</mark>', article, re.DOTALL)
    assert marked is not None
    assert text[:40] in html.unescape(marked[1])
    assert '<details class="raw" open>' in article
    assert "cut into" in article


@pytest.mark.parametrize(
    "place", ["start=5&end=2", "start=0&end=99999999", "start=-1&end=4", "start=x&end=4", "start=٣&end=9"]
)
def test_a_place_that_the_text_does_not_have_marks_nothing(client: httpx2.Client, place: str) -> None:
    page = client.get(f"/article?uri=digest/1&{place}")
    assert page.status_code == 200
    assert '<mark id="passage">' not in page.text


def test_an_article_without_a_mark_shows_its_whole_text_as_it_is(client: httpx2.Client) -> None:
    page = html.unescape(client.get("/article", params={"uri": "digest/1"}).text)
    assert whole_text(1) in page


@pytest.mark.parametrize("mode", MODES)
def test_a_hostile_passage_stays_text(client: httpx2.Client, browser: Browser, url: str, mode: str) -> None:
    assert (
        client.get("/api/search", params={"q": "pangolin sleeps", "mode": mode}).json()["hits"][0]["uri"] == "hostile"
    )
    page = browser.new_page()
    for address in (f"/?q=pangolin+sleeps&mode={mode}", f"/article?uri=hostile&start=0&end={len(HOSTILE)}"):
        page.goto(url + address)
        assert page.evaluate("window.hacked") is None
        assert "<script>window.hacked=1</script>" in page.inner_text("body")
    page.close()
