"""The API of the collections beside the articles."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

TEXTS = ("a tiger sleeps in the tall grass", "rust compiles to machine code", "the bank raised its interest rate")


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[httpx2.Client]:
    """A client of a server whose database has two collections, and was never migrated."""
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as instance:
        docs = instance.collection("docs", dim=384, text=("title", "body"), metadata={"year": "integer"})
        docs.upsert(
            [{"id": f"d{n}", "title": f"T{n}", "body": TEXTS[n % 3], "year": 2000 + n, "n": n} for n in range(30)]
        )
        bare = instance.collection("bare", dim=4, text=(), key="k", key_type="bigint", metric="inner_product")
        bare.upsert([{"k": n} for n in range(5)], vectors=np.eye(5, 4, dtype=np.float32), model="mine")
        with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=60) as opened:
            yield opened
    cluster.drop(conninfo)


def test_they_are_listed_with_their_columns_and_index(client: httpx2.Client) -> None:
    found = {one["name"]: one for one in client.get("/api/collections").json()["collections"]}
    assert set(found) == {"docs", "bare"}
    assert (found["docs"]["dimensions"], found["docs"]["index"], found["docs"]["problem"]) == (
        384, "docs_embedding_hnsw_idx", None,
    )  # fmt: skip
    assert found["docs"]["metadata"] == ["year", "metadata"]


def test_a_collection_is_searched_by_text_vector_and_filter(client: httpx2.Client) -> None:
    found = client.get("/api/collections/docs/search", params={"q": "sleeping tiger", "k": 3}).json()
    assert (found["mode"], len(found["hits"])) == ("hybrid", 3)
    hit = found["hits"][0]
    assert hit["fields"]["body"] == TEXTS[0]
    assert hit["fields"]["metadata"] == {"n": int(hit["key"][1:])}
    assert "<mark>" in hit["snippet"]
    body = {"text": "tiger", "filter": {"year": {"$gte": 2015}}, "k": 20}
    years = [each["fields"]["year"] for each in client.post("/api/collections/docs/search", json=body).json()["hits"]]
    assert years
    assert min(years) >= 2015
    listed = client.get("/api/collections/docs/search", params={"filter": '{"metadata.n": {"$lt": 3}}'}).json()
    assert (listed["mode"], {each["key"] for each in listed["hits"]}) == ("browse", {"d0", "d1", "d2"})
    vector = base64.b64encode(np.array([0, 1, 0, 0], dtype="<f4").tobytes()).decode()
    nearest = client.get("/api/collections/bare/search", params={"vector": vector, "k": 1}).json()["hits"]
    assert [(each["key"], each["similarity"]) for each in nearest] == [(1, 1.0)]


def test_pages_go_on_where_they_ended(client: httpx2.Client) -> None:
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(
            "/api/collections/docs/search", params={"q": "tiger", "mode": "semantic", "k": 7} | after
        ).json()
        seen += [hit["key"] for hit in page["hits"]]
        if page["next_cursor"] is None:
            break
        after = {"after": page["next_cursor"]}
    assert sorted(seen) == sorted(f"d{n}" for n in range(30))


@pytest.mark.parametrize(
    ("path", "parameters", "status", "slug"),
    [
        ("nothing", {"q": "x"}, 404, "collection-not-found"),
        ("docs", {}, 409, "query-inapplicable"),
        ("docs", {"q": "x", "filter": '{"year": {"$foo": 1}}'}, 409, "filter-invalid"),
        ("docs", {"q": "x", "filter": "{"}, 409, "filter-invalid"),
        ("docs", {"vector": "AACAPw=="}, 409, "query-inapplicable"),
        ("bare", {"q": "x", "mode": "keyword"}, 409, "query-inapplicable"),
        ("docs", {"q": "x", "k": 0}, 422, "query-invalid"),
    ],
)
def test_what_cannot_be_answered_is_a_problem(
    client: httpx2.Client, path: str, parameters: dict[str, str], status: int, slug: str
) -> None:
    answer = client.get(f"/api/collections/{path}/search", params=parameters)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_a_server_of_collections_alone_serves_without_the_articles(client: httpx2.Client) -> None:
    assert client.get("/livez").status_code == 200
    assert client.get("/api/search", params={"q": "x"}).status_code >= 400
