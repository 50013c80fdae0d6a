"""What the pages and the API make of a result: groups of near-duplicates, orders, active filters, pages back, files."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from urllib.parse import parse_qs, urlsplit

import httpx2
import pyarrow.parquet as pq
import pytest

from everindex.articles.instance import Instance

HTML = {"accept": "text/html"}
TEXT = "POSIX semaphores on NetBSD"  # told twice by the sample's first articles


def titles(page: str) -> list[str]:
    """The addresses that the hits of a page lead to, in their order, without those grouped under them."""
    return [
        parse_qs(urlsplit(html.unescape(href)).query)["uri"][0]
        for href in re.findall(r'<h2><a href="(/article\?[^"]+)"', page)
    ]


def links(page: str) -> dict[str, str]:
    found = re.search(r'<nav class="pages".*?</nav>', page, re.DOTALL)
    return {} if found is None else {
        text: html.unescape(address) for address, text in re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', found[0])
    }  # fmt: skip


# --- near-duplicates ------------------------------------------------------------------------------------------------


def test_the_page_shows_one_story_once_and_apart_where_that_is_chosen(
    client: httpx2.Client, web_instance: Instance
) -> None:
    wanted = web_instance.search(TEXT, group_duplicates=True)
    page = client.get("/", params={"q": TEXT}, headers=HTML).text
    assert titles(page) == [hit.uri for hit in wanted.hits]
    counts = [len(hit.duplicates) for hit in wanted.hits if hit.duplicates]
    assert counts
    assert [int(n) for n in re.findall(r"<summary>(\d+) more like this</summary>", page)] == counts
    listed = re.findall(r'<li><a href="/article\?uri=', page)
    assert len(listed) == sum(counts)
    apart = client.get("/", params={"q": TEXT, "group": "false"}, headers=HTML).text
    assert titles(apart) == [hit.uri for hit in web_instance.search(TEXT).hits]
    assert "more like this" not in apart
    assert '<option value="false" selected>apart</option>' in apart
    assert "group=false" in links(apart)["Next page"]


def test_the_api_groups_where_it_is_asked_to(client: httpx2.Client, web_instance: Instance) -> None:
    wanted = [
        (hit.uri, [other.uri for other in hit.duplicates])
        for hit in web_instance.search(TEXT, group_duplicates=True).hits
    ]
    by_address = client.get("/api/search", params={"q": TEXT, "group_duplicates": "true"}).json()
    by_body = client.post("/api/search", json={"text": TEXT, "group_duplicates": True}).json()
    for answer in (by_address, by_body):
        assert [(hit["uri"], [other["uri"] for other in hit.get("duplicates", [])]) for hit in answer["hits"]] == wanted
    assert all("duplicates" not in hit for hit in client.get("/api/search", params={"q": TEXT}).json()["hits"])
    alike = client.get("/api/similar", params={"uri": wanted[0][0], "group_duplicates": "true", "k": 5}).json()
    assert len(alike["hits"]) == 5


# --- order, active filters ------------------------------------------------------------------------------------------


def test_a_search_is_sorted_by_date_on_the_page_and_by_the_api(client: httpx2.Client, web_instance: Instance) -> None:
    wanted = web_instance.search("memory", sort="newest", k=10)
    answer = client.get("/api/search", params={"q": "memory", "sort": "newest"}).json()
    assert [hit["uri"] for hit in answer["hits"]] == [hit.uri for hit in wanted.hits]
    assert (answer["sort"], answer["total"], answer["total_is_least"]) == ("newest", wanted.total, False)
    page = client.get("/", params={"q": "memory", "sort": "newest", "group": "false"}, headers=HTML).text
    assert titles(page) == [hit.uri for hit in wanted.hits]
    assert re.search(rf"<strong>1–10</strong> of\s+<strong>{wanted.total}</strong> articles\s+· newest first", page)
    assert '<option value="newest" selected>' in page
    assert "sort=newest" in links(page)["Next page"]
    assert client.get("/api/search", params={"q": "memory", "sort": "oldest"}).status_code == 422
    refused = client.get("/api/search", params={"q": "memory", "sort": "newest", "diversity": 0.5})
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/query-inapplicable")


def test_each_active_filter_is_shown_with_a_link_that_removes_it(client: httpx2.Client) -> None:
    condition = '{"topic": {"$exists": true}}'
    query = {
        "q": "crash",
        "category": "Library",
        "since": "2020",
        "until": "2021",
        "filter": condition,
        "mode": "semantic",
    }
    page = client.get("/", params=query, headers=HTML).text
    chips = re.search(r'<ul class="active" aria-label="Active filters">.*?</ul>', page, re.DOTALL)
    assert chips is not None
    removals = {
        html.unescape(text): parse_qs(urlsplit(html.unescape(href)).query)
        for href, text in re.findall(r'<a class="tag" href="([^"]+)">([^<]+)<', chips[0])
    }
    assert list(removals) == ["Category: Library", "Since: 2020", "Until: 2021", f"Condition: {condition}"]
    for text, left in removals.items():
        gone = {"Condition": "filter"}.get(text.split(":")[0], text.split(":")[0].lower())
        assert left == {name: [value] for name, value in query.items() if name != gone}
    month = client.get("/?since=2021-03&until=2021-03", headers=HTML).text
    assert re.search(r'<a class="tag" href="/">Date: 2021-03<', month)
    assert 'class="active"' not in client.get("/?q=crash", headers=HTML).text


# --- pages back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["category=Library", "q=memory&mode=keyword", "q=memory&sort=newest", "q=memory+leak"]
)
@pytest.mark.parametrize("group", ["", "&group=false"])
def test_the_page_leads_back_and_says_which_articles_it_shows(client: httpx2.Client, query: str, group: str) -> None:
    first = client.get(f"/?{query}&k=5{group}", headers=HTML).text
    assert "Previous page" not in links(first)
    second = client.get(links(first)["Next page"], headers=HTML).text
    assert urlsplit(links(second)["Previous page"]).query.find("after=") == -1, "the first page has its own address"
    third = client.get(links(second)["Next page"], headers=HTML).text
    back = client.get(links(third)["Previous page"], headers=HTML).text
    assert titles(client.get(links(second)["Previous page"], headers=HTML).text) == titles(first)
    if "leak" not in query:
        assert titles(back) == titles(second)
        assert re.search(r"<strong>\d+–\d+</strong> of\s+<strong>[0-9,]+</strong> articles", third)
    assert not set(titles(back)) & set(titles(third))
    if group:
        assert "<strong>11–15</strong>" in third
        assert "<strong>6–10</strong>" in back
    assert links(back)["Previous page"] == links(back)["First page"] == links(second)["First page"]


def test_the_api_leads_back(client: httpx2.Client) -> None:
    asked = {"q": "memory", "mode": "keyword", "k": 4}
    pages = [client.get("/api/search", params=asked).json()]
    for _ in range(2):
        pages.append(client.get("/api/search", params=asked | {"after": pages[-1]["next_cursor"]}).json())
    assert [page["shown_before"] for page in pages] == [0, 4, 8]
    assert (pages[0]["previous_cursor"], pages[1]["previous_cursor"]) == (None, "")
    back = client.get("/api/search", params=asked | {"after": pages[2]["previous_cursor"]}).json()
    assert back["hits"] == pages[1]["hits"]
    assert back["total"] == pages[0]["total"] > 8
    start = client.get("/api/search", params=asked | {"after": back["previous_cursor"]}).json()
    assert start["hits"] == pages[0]["hits"]


# --- more similar ---------------------------------------------------------------------------------------------------


def test_an_article_leads_to_pages_of_similar_ones(client: httpx2.Client, web_instance: Instance) -> None:
    uri = web_instance.search("memory leak", k=1).hits[0].uri
    article = client.get("/article", params={"uri": uri}, headers=HTML).text
    more = re.search(r'<a href="([^"]+)">More similar articles</a>', article)
    assert more is not None
    first = client.get(html.unescape(more[1]), headers=HTML).text
    wanted = web_instance.similar(uri, k=20, group_duplicates=True)
    assert titles(first) == [hit.uri for hit in wanted.hits]
    assert uri not in titles(first)
    second = client.get(links(first)["Next page"], headers=HTML).text
    assert len(titles(second)) == 20
    assert not set(titles(first)) & set(titles(second))
    assert titles(client.get(links(second)["Previous page"], headers=HTML).text) == titles(first)
    assert client.get("/similar", headers=HTML).status_code == 422
    assert client.get("/similar?uri=nowhere", headers=HTML).status_code == 404


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_page_offers_its_result_as_files(client: httpx2.Client, web_instance: Instance) -> None:
    page = client.get("/?q=memory+leak&category=Library&mode=keyword", headers=HTML).text
    found = {text: html.unescape(href) for href, text in re.findall(r'<a href="([^"]+)" download>(\w+)</a>', page)}
    assert list(found) == ["CSV", "JSONL", "Parquet"]
    wanted = web_instance.search("memory leak", mode="keyword", k=1000, filters={"category": "Library"})
    uris = [hit.uri for hit in wanted.hits]
    csv_file, jsonl, parquet = (client.get(found[name]) for name in found)
    assert [row["uri"] for row in csv.DictReader(io.StringIO(csv_file.text, newline=""))] == uris
    assert [json.loads(line)["uri"] for line in jsonl.text.splitlines()] == uris
    assert pq.read_table(io.BytesIO(parquet.content)).column("uri").to_pylist() == uris
    assert [each.headers["content-type"] for each in (csv_file, jsonl, parquet)] == [
        "text/csv; charset=utf-8", "application/x-ndjson", "application/vnd.apache.parquet",
    ]  # fmt: skip
    assert csv_file.headers["content-disposition"] == 'attachment; filename="search.csv"'


@pytest.mark.parametrize(
    ("accept", "type"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("application/jsonl, text/csv", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
    ],
)
def test_without_a_named_format_the_client_says_what_it_accepts(client: httpx2.Client, accept: str, type: str) -> None:
    answer = client.get("/api/export", params={"q": "crash", "k": 3}, headers={"accept": accept})
    assert answer.headers["content-type"] == type
    named = client.get("/api/export", params={"q": "crash", "k": 3, "format": "csv"}, headers={"accept": accept})
    assert named.headers["content-type"] == "text/csv; charset=utf-8"
    assert len(named.text.splitlines()) == 4


def test_an_export_goes_beyond_a_page(client: httpx2.Client, web_instance: Instance) -> None:
    total = web_instance.browse(k=1).total
    whole = client.get("/api/export", params={"format": "jsonl", "k": 100_000})
    assert len({json.loads(line)["uri"] for line in whole.text.splitlines()}) == total
    assert total is not None
    assert total > 1000
    assert "content-length" not in whole.headers


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("k=0", 422),
        ("k=1000001", 422),
        ("format=xml", 422),
        ("q=x&vector=AAAA", 409),
        ("filter={", 409),
        ("sort=oldest", 422),
    ],
)
def test_an_export_that_cannot_be_made_is_a_problem(client: httpx2.Client, query: str, status: int) -> None:
    answer = client.get(f"/api/export?{query}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_collection_is_exported_with_its_own_columns(
    client: httpx2.Client, web_instance: Instance, as_owner: Callable[[Instance], AbstractContextManager[Instance]]
) -> None:
    with as_owner(web_instance) as owner:
        owner.collection("exported", dim=384, metadata={"year": "integer"})
    made = web_instance.collection("exported")
    made.upsert([{"id": f"{n}", "text": f"a tiger sleeps {n}", "year": 2000 + n} for n in range(5)])
    try:
        answer = client.get("/api/collections/exported/export", params={"q": "tiger", "format": "csv", "k": 3})
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [row["id"] for row in rows] == [hit.key for hit in made.search("tiger", k=3).hits]
        assert {"text", "year", "distance"} <= set(rows[0])
        assert client.get("/api/collections/nowhere/export").status_code == 404
    finally:
        with as_owner(web_instance) as owner:
            owner.drop_collection("exported")
