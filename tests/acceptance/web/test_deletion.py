"""Deletion over HTTP: refused unless the setting allows it, and then as the library deletes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest

from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.web.serving import serve_in_thread


@pytest.fixture
def deleting(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """An instance whose server deletes, with six articles of two categories and a collection of three rows."""
    instance = open_instance(migrated, EVERINDEX_DELETE_OVER_HTTP="on")
    instance.upsert([Article(uri=f"urn:{n}", title=f"Tiger {n}", category="AB"[n % 2]) for n in range(6)])
    instance.collection("pets", dim=384).upsert([{"id": str(n), "text": f"cat {n}"} for n in range(3)])
    return instance


@pytest.fixture
def site(deleting: Instance) -> Iterator[httpx2.Client]:
    with serve_in_thread(deleting) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def test_a_server_deletes_nothing_unless_it_is_told_to(client: httpx2.Client) -> None:
    for path in (
        "/api/articles?category=Library",
        "/api/articles?category=Library&dry_run=true",
        "/api/collections/x/rows?key=1",
    ):
        refused = client.delete(path)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/deletion-refused")
    assert client.get("/api/search?category=Library").json()["total"] > 0


def test_articles_are_deleted_by_uri_and_by_filters_and_counted_before(site: httpx2.Client, deleting: Instance) -> None:
    counted = site.delete("/api/articles", params={"category": "A", "dry_run": "true"})
    assert (counted.status_code, counted.json()) == (200, {"deleted": 0, "matching": 3, "dry_run": True})
    assert site.delete("/api/articles?uri=urn:0&uri=urn:1&uri=none").json()["deleted"] == 2
    assert site.delete("/api/articles?uri=urn:2&category=B").json()["deleted"] == 0
    condition = json.dumps({"uri": {"$in": ["urn:2", "urn:3"]}})
    assert site.delete("/api/articles", params={"filter": condition}).json()["deleted"] == 2
    assert {hit["uri"] for hit in site.get("/api/search?q=tiger").json()["hits"]} == {"urn:4", "urn:5"}
    with deleting.connection() as connection:
        row = connection.execute("SELECT count(*) FROM everindex_meta.embedding_record").fetchone()
    assert row == (2,)


def test_rows_of_a_collection_are_deleted(site: httpx2.Client) -> None:
    assert site.delete("/api/collections/pets/rows?key=0&dry_run=1").json()["matching"] == 1
    assert site.delete("/api/collections/pets/rows?key=0").json()["deleted"] == 1
    assert site.delete("/api/collections/pets/rows", params={"filter": '{"id": {"$ne": "1"}}'}).json()["deleted"] == 1
    assert [hit["key"] for hit in site.get("/api/collections/pets/search?q=cat").json()["hits"]] == ["1"]
    assert site.delete("/api/collections/none/rows?key=0").json()["type"] == "/problems/collection-not-found"


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/api/articles", 409, "query-inapplicable"),
        ("/api/articles?category=", 409, "query-inapplicable"),
        ("/api/articles?since=never", 422, "query-invalid"),
        ("/api/articles?filter={", 409, "filter-invalid"),
        ('/api/articles?filter={"nowhere":1}', 409, "filter-invalid"),
        ("/api/articles?uri=urn:0&dry_run=perhaps", 422, "bad-input"),
        ("/api/collections/pets/rows", 409, "query-inapplicable"),
    ],
)
def test_what_does_not_say_which_rows_deletes_none(site: httpx2.Client, path: str, status: int, slug: str) -> None:
    refused = site.delete(path)
    assert (refused.status_code, refused.json()["type"]) == (status, f"/problems/{slug}")
    assert len(site.get("/api/search?q=tiger").json()["hits"]) == 6


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}, {"host": "evil.example"}]
)
def test_no_other_site_deletes(site: httpx2.Client, headers: dict[str, str]) -> None:
    assert site.delete("/api/articles?uri=urn:0", headers=headers).status_code in (403, 421)
    assert len(site.get("/api/search?q=tiger").json()["hits"]) == 6


def test_articles_expire_over_the_api(site: httpx2.Client) -> None:
    body = {"uris": ["urn:0", "none"], "expires_at": "2020-01-31T00:00:00Z"}
    assert site.put("/api/articles/expiry", json=body).json() == {"articles": 1}
    assert "urn:0" not in {hit["uri"] for hit in site.get("/api/search?q=tiger").json()["hits"]}
    assert site.put("/api/articles/expiry", json=body | {"expires_at": None}).json() == {"articles": 1}
    assert "urn:0" in {hit["uri"] for hit in site.get("/api/search?q=tiger").json()["hits"]}
    assert site.put("/api/articles/expiry", json=body | {"expires_at": "soon"}).status_code == 422


def test_a_server_that_does_not_delete_lets_nothing_expire(client: httpx2.Client) -> None:
    refused = client.put("/api/articles/expiry", json={"uris": ["x"], "expires_at": None})
    assert refused.json()["type"] == "/problems/deletion-refused"
