"""Saved searches over HTTP: the API, the page, and feeds that readers understand and need not fetch twice."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import httpx2
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from test_browser import opened

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HTML = {"accept": "text/html"}
ROLE = "saved_web_reader"


@pytest.fixture
def site(instance: Instance) -> Iterator[httpx2.Client]:
    """A server of this test's own database."""
    with serve_in_thread(instance) as url, httpx2.Client(base_url=url, timeout=30) as client:
        yield client


def test_a_search_is_saved_answered_and_removed_over_the_api(site: httpx2.Client) -> None:
    made = site.post(
        "/api/saved", json={"name": "leaks", "text": "memory leak", "category": "Library", "min_similarity": 0.3}
    )
    assert made.status_code == 201, made.text
    assert made.json()["filter"] == {"category": "Library"}
    assert site.get("/api/saved").json() == {"saved_searches": [made.json()]}
    assert site.get("/api/saved/leaks").json() == made.json()
    newest = site.get("/api/saved/leaks/newest", params={"k": 4}).json()["hits"]
    dates = [hit["publication_date"] for hit in newest]
    assert (len(dates), dates) == (4, sorted(dates, reverse=True))
    again = site.post("/api/saved", json={"name": "leaks", "text": "x"})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/saved-search-exists")
    removed = site.delete("/api/saved/leaks")
    assert (removed.status_code, removed.content) == (204, b"")
    for path in ("/api/saved/leaks", "/api/saved/leaks/newest", "/saved/leaks.rss"):
        gone = site.get(path)
        assert (gone.status_code, gone.json()["type"]) == (404, "/problems/saved-search-not-found")
    assert site.delete("/api/saved/leaks").status_code == 404


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}])
def test_no_other_site_saves_or_removes(site: httpx2.Client, headers: dict[str, str]) -> None:
    site.post("/api/saved", json={"name": "kept", "text": "x"})
    for answer in (
        site.post("/api/saved", json={"name": "evil", "text": "x"}, headers=headers),
        site.delete("/api/saved/kept", headers=headers),
        site.post("/saved", data={"name": "evil", "q": "x"}, headers=headers),
        site.post("/saved/remove", data={"name": "kept"}, headers=headers),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/cross-site-refused")
    assert [each["name"] for each in site.get("/api/saved").json()["saved_searches"]] == ["kept"]


def test_a_feed_is_rss_that_our_own_importer_reads(site: httpx2.Client, tmp_path: Path) -> None:
    site.post("/api/saved", json={"name": "a & b", "text": "memory leak", "min_similarity": 0.2})
    feed = site.get("/saved/a%20%26%20b.rss")
    assert (feed.status_code, feed.headers["content-type"]) == (200, "application/rss+xml; charset=utf-8")
    channel = ElementTree.fromstring(feed.content).find("channel")
    assert channel is not None
    for name in ("title", "link", "description"):
        assert channel.findtext(name)
    itself = channel.find("{http://www.w3.org/2005/Atom}link")
    assert itself is not None
    assert site.get(itself.attrib["href"]).content == feed.content
    assert site.get(str(channel.findtext("link")), headers=HTML).text.count('class="hit"') == 10
    guids = [item.findtext("guid") for item in channel.iter("item")]
    assert guids == [hit["uri"] for hit in site.get("/api/saved/a%20%26%20b/newest").json()["hits"]]
    assert len(set(guids)) == len(guids) == 50
    moments = [parsedate_to_datetime(str(item.findtext("pubDate"))) for item in channel.iter("item")]
    assert moments == sorted(moments, reverse=True)

    file = tmp_path / "feed.xml"
    file.write_bytes(feed.content)
    read = [each for each in read_source(str(file)) if isinstance(each, Article)]
    titles = [str(item.findtext("title")) for item in channel.iter("item")]
    assert [article.title for article in read] == [" ".join(title.split()) for title in titles]
    assert read[0].publication_date is not None


def test_a_feed_that_has_not_changed_is_not_sent_again(site: httpx2.Client, instance: Instance) -> None:
    site.post("/api/saved", json={"name": "leaks", "text": "memory leak", "min_similarity": 0.3})
    with instance.connection() as connection:
        connection.execute("UPDATE everindex_meta.saved_search SET saved_at = now() - interval '1 hour'")
        connection.execute("UPDATE everindex_meta.embedding_record SET embedded_at = now() - interval '2 hours'")
    first = site.get("/saved/leaks.rss")
    tag, changed = first.headers["etag"], first.headers["last-modified"]
    for known in ({"if-none-match": tag}, {"if-none-match": f'"x", W/{tag}'}, {"if-modified-since": changed}):
        answer = site.get("/saved/leaks.rss", headers=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    other = {"if-none-match": '"other"', "if-modified-since": changed}
    assert site.get("/saved/leaks.rss", headers=other).status_code == 200
    assert site.get("/saved/leaks.rss", headers={"if-modified-since": "yesterday"}).status_code == 200

    instance.upsert([Article(uri="urn:new", title="memory leak", publication_date="2030-01-01")])
    for known in ({"if-none-match": tag}, {"if-modified-since": changed}):
        answer = site.get("/saved/leaks.rss", headers=known)
        assert (answer.status_code, b"urn:new" in answer.content) == (200, True)
        assert "last-modified" not in answer.headers, "another article may come within the same second"
    assert answer.headers["etag"] != tag


def test_hostile_articles_and_names_are_text_in_the_feed_and_on_the_page(
    site: httpx2.Client, instance: Instance
) -> None:
    hostile = '<script>alert("1")</script> & ]]> \x01\ufffe'
    instance.upsert(
        [Article(uri="javascript:alert(1)", title=hostile, summary=f"{hostile} more", publication_date="2030-01-01")]
    )
    name = "<svg onload=alert(1)>&\"'"
    assert site.post("/api/saved", json={"name": name, "text": "script alert", "mode": "keyword"}).status_code == 201
    items = list(ElementTree.fromstring(site.get("/saved/%3Csvg%20onload=alert(1)%3E&%22'.rss").content).iter("item"))
    assert items[0].findtext("title") == '<script>alert("1")</script> & ]]> \ufffd\ufffd'
    assert str(items[0].findtext("description")).startswith("&lt;script&gt;")
    assert str(items[0].findtext("link")).startswith("http://127.0.0.1")
    page = site.get("/saved", headers=HTML).text
    assert html.escape(name, quote=False) in page.replace("&#34;", '"').replace("&#39;", "'")
    assert "<svg onload" not in page


def test_the_present_search_is_saved_from_its_results(browser: Browser, site: httpx2.Client) -> None:
    with opened(browser, str(site.base_url), java_script_enabled=False) as page:
        page.goto("/?q=memory+leak&category=Library&mode=semantic")
        page.get_by_text("Save this search").click()
        page.get_by_label("Name of the saved search").fill("leaks in the library")
        page.get_by_role("button", name="Save").click()
        row = page.locator(".incident", has_text="leaks in the library")
        assert "by meaning" in row.inner_text()
        row.get_by_role("link", name="leaks in the library", exact=True).click()
        assert page.get_by_role("searchbox").input_value() == "memory leak"
        assert page.locator(".hit").count() == 10
        page.get_by_text("Save this search").click()
        page.get_by_label("Name of the saved search").fill("leaks in the library")
        page.get_by_role("button", name="Save").click()
        assert page.locator(".problem").is_visible()
        assert page.get_by_label("Search text").input_value() == "memory leak"
        page.get_by_label("Name").fill("the same again")
        page.get_by_role("button", name="Save", exact=True).click()
        page.locator(".incident", has_text="leaks in the library").get_by_role("button").click()
        assert page.locator(".incident").count() == 1
    (kept,) = site.get("/api/saved").json()["saved_searches"]
    assert (kept["name"], kept["text"], kept["mode"], kept["filter"]) == (
        "the same again", "memory leak", "semantic", {"category": "Library"},
    )  # fmt: skip


def test_the_page_tells_a_role_without_rights_what_to_grant(instance: Instance) -> None:
    instance.saved_searches.add("leaks", "memory leak")
    with psycopg.connect(instance.conninfo, autocommit=True) as owner:
        owner.execute(f"DROP ROLE IF EXISTS {ROLE}")
        owner.execute(f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON articles TO {ROLE}")
        try:
            with (
                connect_instance(make_conninfo(instance.conninfo, user=ROLE), settings=Settings()) as reader,
                serve_in_thread(reader) as url,
                httpx2.Client(base_url=url, timeout=30) as client,
            ):
                page = client.get("/saved", headers=HTML)
                assert (page.status_code, "GRANT USAGE ON SCHEMA everindex_meta" in page.text) == (403, True)
                refused = client.get("/api/saved")
                assert (refused.status_code, refused.json()["type"]) == (403, "/problems/permission-denied")
        finally:
            owner.execute(f"DROP OWNED BY {ROLE}")
            owner.execute(f"DROP ROLE {ROLE}")


def test_a_search_of_a_collection_is_saved_on_its_page_and_has_a_feed_of_its_rows(
    site: httpx2.Client, instance: Instance
) -> None:
    docs = instance.collection("docs", dim=1536, text=("title", "body"), metadata={"made": "date"}, date="made")
    docs.upsert(
        {"id": f"o/{n}", "title": f"Otter {n}", "body": "Swims & dives.", "made": f"2024-01-0{n + 1}"} for n in range(3)
    )
    page = site.get("/collections/docs", params={"q": "otter"}).text
    assert '<input type="hidden" name="collection" value="docs">' in page
    form = {"name": "otters", "q": "otter", "mode": "keyword", "collection": "docs"}
    assert site.post("/saved", data=form, headers={"origin": str(site.base_url).rstrip("/")}).status_code == 303
    assert "in docs" in site.get("/saved").text
    channel = ElementTree.fromstring(site.get("/saved/otters.rss").content).find("channel")
    assert channel is not None
    items = channel.findall("item")
    assert [item.findtext("guid") for item in items] == ["docs/o/2", "docs/o/1", "docs/o/0"]
    link = items[0].findtext("link") or ""
    assert link.endswith("/collections/docs/row?key=o%2F2")
    assert "Otter 2" in site.get(link).text
    assert "2024" in (items[0].findtext("pubDate") or "")
    newest = site.get("/api/saved/otters/newest").json()["hits"]
    assert [hit["key"] for hit in newest] == ["o/2", "o/1", "o/0"]


@pytest.mark.parametrize(("trusted", "scheme"), [("127.0.0.0/8", "https"), ("", "http"), ("192.0.2.1", "http")])
def test_a_feed_has_the_scheme_that_a_trusted_proxy_forwards(
    migrated: str, open_instance: Callable[..., Instance], trusted: str, scheme: str
) -> None:
    instance = open_instance(migrated, EVERINDEX_TRUSTED_PROXIES=trusted, EVERINDEX_ALLOWED_HOSTS="search.example.org")
    instance.upsert([Article(uri="a", title="Tiger")])
    instance.saved_searches.add("tigers", "tiger")
    forwarded = {"host": "search.example.org", "x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.7"}
    with serve_in_thread(instance) as url:
        feed = httpx2.get(f"{url}/saved/tigers.rss", headers=forwarded).text
    assert f"<link>{scheme}://search.example.org/article?uri=a</link>" in feed
