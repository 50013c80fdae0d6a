"""The pages of collections: the list, the search of one, its rows and its index, without the articles."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from web_fixtures import HOSTILE

HTML = {"accept": "text/html"}
TEXTS = ("a tiger sleeps in the tall grass", "rust compiles to machine code", "the bank raised its interest rate")


@pytest.fixture(scope="module")
def opened(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as instance:
        docs = instance.collection(
            "docs", dim=384, text=("title", "body"), date="made",
            metadata={"year": "integer", "shelf": "text", "made": "date"},
        )  # fmt: skip
        docs.upsert(
            [
                {
                    "id": f"d{n}", "title": f"T{n}", "body": TEXTS[n % 3], "year": 2000 + n, "shelf": "AB"[n % 2],
                    "made": dt.date(2024, 1 + n % 4, 1), "n": n,
                }
                for n in range(30)
            ]
        )  # fmt: skip
        bare = instance.collection("bare", dim=4, text=(), key="k", key_type="bigint", metric="l2")
        bare.upsert([{"k": n} for n in range(5)], vectors=np.eye(5, 4, dtype=np.float32), model="mine")
        hostile = instance.collection("h<b>'\"&/x", dim=384, key="k&", text=("<i>",), metadata={"m<u>": "text"})
        hostile.upsert([{"k&": text, "<i>": f"hostile {text}", "m<u>": text} for text in HOSTILE])
        wide = instance.collection("wide", dim=2500, text=())
        wide.upsert([{"id": str(n)} for n in range(5)], vectors=np.eye(5, 2500, dtype=np.float32), model="mine")
        yield instance
    cluster.drop(conninfo)


@pytest.fixture(scope="module")
def site(opened: Instance) -> Iterator[httpx2.Client]:
    with serve_in_thread(opened) as url, httpx2.Client(base_url=url, timeout=60, headers=HTML) as client:
        yield client


def test_the_start_of_a_database_of_collections_is_their_list(site: httpx2.Client) -> None:
    first = site.get("/")
    assert (first.status_code, first.headers["location"]) == (303, "/collections")
    page = site.get("/collections").text
    assert 'href="/collections/docs"' in page
    assert page.count("index valid") == 4
    assert "vector(2500), cosine" in page


def test_the_articles_are_searched_on_the_start_page(site: httpx2.Client) -> None:
    answer = site.get("/collections/articles")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_without_a_text_the_newest_rows_are_listed_with_their_columns(site: httpx2.Client) -> None:
    page = site.get("/collections/docs").text
    assert re.search(r"<strong>1–10</strong> of\s+<strong>30</strong> rows\s+· newest first", page)
    assert page.count('class="hit"') == 10
    assert re.search(r'class="fact">made</span> 2024-04-01', page)
    assert re.search(r'class="fact">metadata.n</span> \d+', page)


def test_a_search_shows_marked_hits_values_to_narrow_it_and_the_next_page(site: httpx2.Client) -> None:
    page = site.get("/collections/docs", params={"q": "sleeping tiger", "k": 5}).text
    assert page.count('class="hit"') == 5
    assert "<mark>tiger</mark>" in page
    assert 'value="sleeping tiger"' in page
    narrowed = re.search(r'<a class="tag" href="([^"]+)">A ', page)
    assert narrowed is not None
    address = narrowed[1].replace("&amp;", "&")
    only = site.get(address).text
    assert set(re.findall(r'class="fact">shelf</span> (\w)', only)) == {"A"}
    assert "Clear the filter" in only
    month = re.search(r'<a href="([^"]+)" aria-label="2024-02: \d+">', page)
    assert month is not None
    of_month = site.get(month[1].replace("&amp;", "&")).text
    assert set(re.findall(r'class="fact">made</span> ([\d-]+)', of_month)) == {"2024-02-01"}
    following = re.search(r'href="([^"]+)" rel="next"', page)
    assert following is not None
    second = site.get(following[1].replace("&amp;", "&")).text
    first_keys, second_keys = (set(re.findall(r"row\?key=(d\d+)", text)) for text in (page, second))
    assert len(second_keys) == 5
    assert not first_keys & second_keys


def test_the_page_of_a_collection_groups_sorts_exports_and_leads_back(opened: Instance, site: httpx2.Client) -> None:
    told = opened.collection("told", dim=384, text=("title", "body"), date="made", metadata={"made": "date"})
    told.upsert(
        {"id": f"r{n}", "title": "The tiger", "body": TEXTS[n % 3], "made": dt.date(2024, 1 + n % 12, 1)}
        for n in range(12)
    )
    try:
        page = site.get("/collections/told", params={"q": "tiger", "k": 2}).text
        assert page.count('class="hit"') == 2
        assert "3 more like this" in page
        assert page.count("more like this") == 2
        apart = site.get("/collections/told", params={"q": "tiger", "k": 5, "group": "false", "sort": "newest"}).text
        assert "more like this" not in apart
        assert re.findall(r'class="fact">made</span> ([\d-]+)', apart) == [
            f"2024-{month:02}-01" for month in range(12, 7, -1)
        ]
        assert re.search(r"<strong>1–5</strong> of\s+<strong>12</strong> rows\s+· newest first", apart)
        following = re.search(r'href="([^"]+)" rel="next"', apart)
        assert following is not None
        second = site.get(following[1].replace("&amp;", "&")).text
        assert "<strong>6–10</strong>" in second
        back = re.search(r'href="([^"]+)" rel="prev"', second)
        assert back is not None
        assert "after=" not in back[1]
        exported = re.search(r'<a href="([^"]+)" download>CSV</a>', apart)
        assert exported is not None
        lines = site.get(exported[1].replace("&amp;", "&")).text.splitlines()
        assert len(lines) == 13
        assert "2024-12-01" in lines[1]
    finally:
        opened.drop_collection("told")


def test_a_filter_that_is_wrong_is_told_beside_the_form(site: httpx2.Client) -> None:
    wrong = site.get("/collections/docs", params={"q": "x", "filter": '{"year": "two"}'})
    assert wrong.status_code == 409
    assert "a column is compared with values of its own type" in wrong.text.lower()
    assert 'name="filter"' in wrong.text


def test_a_row_shows_its_columns_and_the_rows_like_it(site: httpx2.Client) -> None:
    page = site.get("/collections/docs/row", params={"key": "d3"}).text
    assert "<h1>T3</h1>" in page
    assert "2003" in page
    assert page.count('class="hit"') == 6
    assert 'key=d3"' not in page.split("Similar rows")[1]
    assert site.get("/collections/docs/row", params={"key": "none"}).status_code == 404
    assert site.get("/collections/bare/row", params={"key": "none"}).status_code == 404
    assert site.get("/collections/docs/row").status_code == 422
    by_distance = site.get("/collections/bare/row", params={"key": "1"}).text
    assert 'title="distance"' in by_distance


@pytest.mark.parametrize("name", ["docs", "bare", "wide"])
def test_the_index_of_a_collection_has_its_page_and_its_proofs(site: httpx2.Client, name: str) -> None:
    site.post(f"/collections/{name}/index/verify", headers={"origin": str(site.base_url).rstrip("/")})
    for _ in range(600):
        page = site.get(f"/collections/{name}/index").text
        if "is used and is accurate" in page and "Indexes" in page:
            break
    else:
        pytest.fail(page)
    assert f"{name}_embedding_hnsw_idx" in page
    assert "migrated" not in page
    assert f'action="/collections/{name}/index/verify"' in page
    found = site.get(f"/api/collections/{name}/index", headers={"accept": "application/json"}).json()
    assert found["state"] == "valid"
    assert [proof["name"] for proof in found["verification"]["proofs"]] == ["index", "planner", "recall"]


def test_a_collection_of_codes_is_searched_on_its_page(opened: Instance, site: httpx2.Client) -> None:
    assert opened.collection("wide").similar("1").strategy in ("reranked", "exact")
    assert site.get("/collections/wide/row", params={"key": "1"}).status_code == 200


def test_what_does_not_exist_is_a_page_that_says_so(site: httpx2.Client) -> None:
    for path in ("/collections/nothing", "/collections/nothing/index", "/collections/nothing/row?key=x"):
        missing = site.get(path)
        assert missing.status_code == 404
        assert "There is no collection" in missing.text


def test_names_and_rows_that_try_to_run_are_shown_as_text(site: httpx2.Client) -> None:
    listed = site.get("/collections").text
    (path,) = re.findall(r'<a href="(/collections/h[^"/]+)">', listed)
    for page in (
        listed,
        site.get(path).text,
        site.get(path, params={"q": "hostile"}).text,
        site.get(f"{path}/index").text,
    ):
        assert "<script>window" not in page
        assert "<img src=x" not in page
        assert "<svg/onload" not in page
        assert "<b>'" not in page
    rows = re.findall(r'href="([^"]+/row\?key=[^"]+)"', site.get(path).text)
    assert len(rows) == len(HOSTILE)
    for row in rows:
        page = site.get(row.replace("&amp;", "&")).text
        assert "<script>window" not in page
        assert "<u>" not in page


def test_a_row_is_read_and_compared_over_the_api(site: httpx2.Client) -> None:
    row = site.get("/api/collections/docs/row", params={"key": "d3"}).json()
    assert row["key"] == "d3"
    assert row["fields"]["year"] == 2003
    similar = site.get("/api/collections/docs/similar", params={"key": "d3", "k": 4, "filter": '{"shelf": "A"}'}).json()
    assert [hit["fields"]["shelf"] for hit in similar["hits"]] == ["A"] * 4
    assert "d3" not in {hit["key"] for hit in similar["hits"]}
    for path in ("docs/row", "docs/similar", "bare/row", "bare/similar"):
        missing = site.get(f"/api/collections/{path}", params={"key": "no such"})
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/row-not-found")


def test_a_server_of_collections_alone_is_ready_and_says_what_its_searches_suffer_from(
    opened: Instance, site: httpx2.Client
) -> None:
    ready = site.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["degraded"] is False
    assert set(ready.json()["collections"].values()) == {"valid"}
    with psycopg.connect(opened.conninfo, autocommit=True) as connection:
        connection.execute("DROP INDEX wide_embedding_hnsw_idx")
    degraded = site.get("/readyz").json()
    assert (degraded["ready"], degraded["degraded"], degraded["collections"]["wide"]) == (True, True, "missing")
    assert any("collection wide" in reason for reason in degraded["reasons"])
    opened.collection("wide").deploy()
    assert site.get("/readyz").json()["degraded"] is False


def test_articles_and_collections_are_ready_together(instance: Instance) -> None:
    instance.collection("docs", dim=8, text=())
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=60) as client:
        found = client.get("/readyz").json()
        assert (found["index"]["state"], found["collections"]) == ("valid", {"docs": "valid"})
        with instance.connection() as connection:
            connection.execute("DROP TABLE docs")
        found = client.get("/readyz").json()
        assert (found["ready"], found["collections"]) == (True, {"docs": None})
        assert client.get("/", headers=HTML).status_code == 200
