"""The pages are whole without a script: they show what is there, keep what was written, and escape everything."""

from __future__ import annotations

import html
import re
import time
from urllib.parse import urlsplit

import httpx2
import pytest

from everindex.articles.connect import connect_instance
from everindex.settings import Settings
from everindex.web.pages.render import safe_link
from everindex.web.reports.index_report import read_index_report
from everindex.web.serving import serve_in_thread

HTML = {"accept": "text/html"}


def test_a_search_page_shows_hits_with_links_similarity_and_strategy(client: httpx2.Client) -> None:
    page = client.get("/?q=memory+leak+in+the+parser&k=3", headers=HTML).text

    assert page.count('class="hit"') == 3
    assert re.search(r'href="/article\?uri=https%3A%2F%2F', page)
    assert re.search(r"0\.\d{3}", page)
    assert "vector index" in page
    assert re.search(r"\d+\.\d ms", page)


def test_the_form_keeps_what_was_asked(client: httpx2.Client) -> None:
    page = client.get("/?q=crash&category=IDLE&since=2016-03&until=2020&k=5", headers=HTML).text

    assert 'value="crash"' in page
    assert re.search(r'<option value="IDLE" selected>', page)
    assert 'name="since" value="2016-03-01"' in page
    assert 'name="until" value="2020-12-31"' in page
    assert 'name="k" value="5"' in page
    assert '<details class="filters" open>' in page


@pytest.mark.parametrize(
    ("query", "told"),
    [("q=crash&since=yesterday", "Since is not a date"), ("q=crash&k=0", "K = 0"), ("q=crash&k=many", "K is not a whole number"),
     ("q=" + "x" * 10_001, "10001 characters"), ("q=crash&category=" + "x" * 501, "filter category")],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_a_search_that_cannot_be_answered_is_told_beside_the_form(client: httpx2.Client, query: str, told: str) -> None:
    response = client.get(f"/?{query}", headers=HTML)

    assert response.status_code == 422
    assert told in response.text
    assert 'name="q"' in response.text


def test_nothing_found_is_said_with_a_way_out(client: httpx2.Client) -> None:
    page = client.get("/?q=crash&category=Nowhere", headers=HTML).text

    assert "No results" in page
    assert "Search without filters" in page
    assert '<option value="Nowhere" selected>' in page


def test_before_a_search_there_are_examples_and_the_latest_articles(client: httpx2.Client) -> None:
    page = client.get("/", headers=HTML).text

    assert "Latest articles" in page
    assert "/?q=memory+leak+in+the+parser" in page


def test_htmx_gets_the_results_alone_and_an_address_without_empty_fields(client: httpx2.Client) -> None:
    headers = {"hx-request": "true", "hx-current-url": "http://x/", "accept": "text/html"}

    first = client.get("/?q=memory&category=&topic=&k=10", headers=headers)
    typing = client.get("/?q=memory+leak", headers=headers | {"hx-current-url": "http://x/?q=memory"})
    restored = client.get("/?q=memory", headers=headers | {"hx-history-restore-request": "true"})

    assert "<html" not in first.text
    assert first.text.count('class="hit"') == 10
    assert first.headers["hx-push-url"] == "/?q=memory"
    assert typing.headers["hx-replace-url"] == "/?q=memory+leak"
    assert first.headers["cache-control"] == "no-store"
    assert "HX-Request" in first.headers["vary"]
    assert "<html" in restored.text


def test_an_article_shows_everything_that_is_filled_and_nothing_else(client: httpx2.Client) -> None:
    uri = client.get(
        "/api/search", params={"q": "hostile script alert", "source": "<svg/onload=window.hacked=1>"}
    ).json()
    page = client.get("/article", params={"uri": uri["hits"][0]["uri"]}, headers=HTML).text

    for shown in ("Sentiment", "Driver", "Quality", "0.50", "Full text", "Tags", "Similar articles"):
        assert shown in page
    for missing in ("Future signal", "Time to impact", "Relevance", "None"):
        assert missing not in page


def test_only_http_links_lead_to_a_source() -> None:
    assert safe_link("https://example.org/a?b#c") == "https://example.org/a?b#c"
    for uri in (
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "vbscript:x",
        "data:text/html,x",
        "//example.org",
        "http:",
        "file:///etc/passwd",
        "urn:isbn:1",
        "",
        None,
        "http://[broken",
    ):
        assert safe_link(uri) is None


def test_a_javascript_uri_is_shown_as_text_and_never_as_a_link(client: httpx2.Client) -> None:
    page = client.get("/article?uri=javascript:window.hacked%3D1", headers=HTML)

    assert page.status_code == 200
    assert "javascript:window.hacked=1" in html.unescape(page.text)
    assert not re.search(r'(?:href|src|action|hx-[a-z]+)="\s*javascript:', page.text, re.IGNORECASE)
    assert "Read at the source" not in page.text


def test_hostile_text_is_escaped_on_every_page(client: httpx2.Client) -> None:
    uris = [
        hit["uri"]
        for hit in client.get("/api/search?q=hostile&k=40").json()["hits"]
        if "hostile" in (hit["title"] or "")
    ]
    pages = [client.get(path, headers=HTML) for path in ("/?q=hostile&k=40", "/", "/incidents")]
    pages += [client.get("/article", params={"uri": uri}, headers=HTML) for uri in uris]
    hostile = {"q": '"><script>window.hacked=1</script>', "category": "<script>x</script>"}
    pages.append(client.get("/", params=hostile, headers=HTML))
    pages.append(client.get("/article", params={"uri": "<script>window.hacked=1</script>"}, headers=HTML))

    assert len(uris) >= 7
    for page in pages:
        assert "<script>window" not in page.text
        assert "<img src=x" not in page.text
        assert "<svg/onload" not in page.text
        assert "49" not in re.findall(r"\{\{ (\d+) \}\}", page.text)


def test_an_incident_is_created_and_changed_by_plain_forms(client: httpx2.Client) -> None:
    created = client.post("/incidents", data={"incident_name": "by form", "topic": "pages", "status": "active"})
    listed = client.get("/incidents?status=active", headers=HTML).text
    changed = client.post(
        "/incidents/status",
        data={"incident_name": "by form", "topic": "pages", "status": "resolved", "shown": "active"},
    )

    assert created.status_code == 303
    assert created.headers["location"] == "/incidents"
    assert "by form" in listed
    assert changed.headers["location"] == "/incidents?status=active"
    assert "by form" not in client.get("/incidents?status=active", headers=HTML).text


def test_an_incident_that_cannot_be_made_is_told_and_the_input_kept(client: httpx2.Client) -> None:
    client.post("/incidents", data={"incident_name": "kept", "topic": "pages"})

    for data, told, status in (
        ({"incident_name": "kept", "topic": "pages"}, "already exists", 409),
        ({"incident_name": " ", "topic": "pages"}, "Incident_name cannot be used", 422),
        ({"incident_name": "new", "topic": "kept topic", "status": "gone"}, "is unknown", 422),
    ):
        response = client.post("/incidents", data=data, headers=HTML)
        assert response.status_code == status
        assert told in response.text
        assert f'value="{data["topic"]}"' in response.text


def test_a_redirect_never_leaves_the_site(client: httpx2.Client) -> None:
    data = {"incident_name": "away", "topic": "pages", "shown": "//evil.example"}

    location = urlsplit(client.post("/incidents", data=data).headers["location"])
    assert (location.scheme, location.netloc, location.path) == ("", "", "/incidents")


def test_the_index_page_is_there_at_once_and_the_proofs_follow(client: httpx2.Client) -> None:
    started = time.monotonic()
    first = client.get("/index", headers=HTML)
    assert time.monotonic() - started < 2.5
    assert first.status_code == 200

    deadline = time.monotonic() + 40
    while "Verify again" not in (page := client.get("/index", headers=HTML).text) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert "The index exists, is used and is accurate" in page
    assert page.count('<li class="proof good">') == 4
    assert "CREATE INDEX articles_embedding_hnsw_idx" in page
    assert "Index Scan using articles_embedding_hnsw_idx" in page

    again = client.post("/index/verify", data={})
    assert again.status_code == 303
    assert "Running" in client.get("/index/proofs").text


def test_the_index_page_counts_vectors_of_an_unrecorded_and_of_a_declared_model(migrated: str) -> None:
    with connect_instance(migrated, settings=Settings()) as instance:
        instance.upsert([{"uri": f"u{n}", "title": f"title {n}"} for n in range(12)])
        with instance.connection() as connection:
            connection.execute("DELETE FROM everindex_meta.embedding_record")
        instance.invalidate()
        unknown = read_index_report(instance)
        assert (unknown.models, unknown.unrecorded, unknown.is_model_unknown) == ({}, 12, True)
        instance.declare_model("static")
        with serve_in_thread(instance) as url:
            known = httpx2.get(f"{url}/api/index").json()
            page = httpx2.get(f"{url}/index/report", headers=HTML).text
    assert (known["unrecorded"], known["is_model_unknown"]) == (12, False)
    assert known["declared_model"].startswith("everindex/")
    assert f"<code>{known['declared_model']}</code>, declared for vectors without a record" in page


def test_the_reference_names_every_operation(client: httpx2.Client) -> None:
    page = client.get("/docs", headers=HTML).text

    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page
    assert "<script src=" in page
    assert "http://" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
