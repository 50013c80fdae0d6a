"""The page of an incident, its API, and the incidents on the page of an article."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx2
import psycopg
import pytest
from test_browser import opened

from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.web.serving import serve_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HTML = {"accept": "text/html"}
OUTAGE = {"incident_name": "outage", "topic": "infra"}


@pytest.fixture
def site(instance: Instance) -> Iterator[httpx2.Client]:
    """A server of this test's own database, with an article `urn:1` and an incident."""
    instance.upsert([Article(uri="urn:1", title="Disk is full <b>", summary="of logs")])
    instance.incidents.create(**OUTAGE)
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def test_an_incident_is_linked_noted_and_unlinked_over_the_api(site: httpx2.Client, instance: Instance) -> None:
    linked = site.post("/api/incident/links", json=OUTAGE | {"article": "urn:1"})
    assert (linked.status_code, linked.json()["title"]) == (201, "Disk is full <b>")
    assert site.post("/api/incident/links", json=OUTAGE | {"query": "disk"}).status_code == 201
    note = site.post("/api/incident/notes", json=OUTAGE | {"text": "seen"})
    assert (note.status_code, note.json()["text"]) == (201, "seen")
    record = site.get("/api/incident", params=OUTAGE).json()
    assert [each["kind"] for each in record["links"]] == ["query", "article"]
    assert record["notes"] == [note.json()]
    assert site.get("/api/article/incidents", params={"uri": "urn:1"}).json()["incidents"] == [record["incident"]]
    instance.delete(["urn:1"])
    assert [each["is_gone"] for each in site.get("/api/incident", params=OUTAGE).json()["links"]] == [False, True]
    removed = site.delete("/api/incident/links", params=OUTAGE | {"article": "urn:1"})
    assert (removed.status_code, removed.content) == (204, b"")
    for answer, status, slug in (
        (site.delete("/api/incident/links", params=OUTAGE | {"article": "urn:1"}), 404, "incident-link-not-found"),
        (site.delete("/api/incident/links", params=OUTAGE), 409, "query-inapplicable"),
        (site.post("/api/incident/links", json=OUTAGE), 422, "bad-input"),
        (site.post("/api/incident/links", json=OUTAGE | {"article": "urn:1"}), 404, "article-not-found"),
        (site.post("/api/incident/notes", json=OUTAGE | {"text": " "}), 422, "query-invalid"),
        (site.get("/api/incident", params=OUTAGE | {"topic": "x"}), 404, "incident-not-found"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


def test_no_other_site_links_or_notes(site: httpx2.Client) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    for answer in (
        site.post("/api/incident/links", json=OUTAGE | {"query": "x"}, headers=headers),
        site.delete("/api/incident/links", params=OUTAGE | {"query": "x"}, headers=headers),
        site.post("/incident/notes", data=OUTAGE | {"text": "x"}, headers=headers),
        site.post("/incident/links", data=OUTAGE | {"query": "x"}, headers=headers),
        site.post("/incident/unlink", data=OUTAGE | {"query": "x"}, headers=headers),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-site-refused")
    assert site.get("/api/incident", params=OUTAGE).json()["links"] == []


@pytest.mark.parametrize("scripts", [True, False])
def test_an_article_is_added_to_an_incident_and_both_pages_say_so(
    browser: Browser, site: httpx2.Client, instance: Instance, scripts: bool
) -> None:
    instance.saved_searches.add("disks", "full disk")
    with opened(browser, str(site.base_url), java_script_enabled=scripts) as page:
        page.goto("/article?uri=urn:1")
        page.get_by_label("Incident", exact=True).select_option("outage (infra, active)")
        page.get_by_role("button", name="Add to incident").click()
        page.wait_for_url("**/article?uri=urn%3A1")
        assert page.get_by_role("button", name="Add to incident").count() == 0
        page.locator(".incident").get_by_role("link", name="outage").click()
        assert page.get_by_role("heading", name="outage").is_visible()
        page.get_by_label("Text to search for").fill("full disk")
        page.get_by_role("button", name="Link search").click()
        page.get_by_role("button", name="Link saved search").click()
        page.get_by_label("New note").fill("first line\nsecond line <script>window.hacked=1</script>")
        page.get_by_role("button", name="Add note").click()
        assert page.locator(".note").inner_text().startswith("first line\nsecond line <script>")
        assert page.locator(".incident").count() == 3
        instance.delete(["urn:1"])
        page.reload()
        gone = page.locator(".incident", has_text="Disk is full <b>")
        assert "gone" in gone.inner_text()
        gone.get_by_role("button").click()
        assert page.locator(".incident").count() == 2
        page.get_by_role("link", name="full disk", exact=True).click()
        assert page.get_by_role("searchbox").input_value() == "full disk"


def test_a_note_without_text_is_told_above_the_forms(site: httpx2.Client) -> None:
    page = site.post("/incident/notes", data=OUTAGE | {"text": "\u200b\n"}, headers=HTML)
    assert page.status_code in (303, 422)
    refused = site.post("/incident/notes", data=OUTAGE | {"text": "  "}, headers=HTML)
    assert (refused.status_code, "The note cannot be stored" in refused.text) == (422, True)
    assert site.post("/incident/links", data={"incident": "not JSON", "article": "urn:1"}).status_code == 422


def test_an_article_is_shown_where_there_is_no_table_of_incidents(site: httpx2.Client, instance: Instance) -> None:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE incident_status")
    page = site.get("/article?uri=urn:1", headers=HTML)
    assert (page.status_code, "This database has no table incident_status" in page.text) == (200, True)
