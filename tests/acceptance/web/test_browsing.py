"""Filters without a text: the page, the API and the command list the newest articles that pass; a tag narrows."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from everindex.articles.instance import Instance

HTML = {"accept": "text/html"}


def uris_of(page: str) -> list[str]:
    return [
        parse_qs(urlsplit(html.unescape(href)).query)["uri"][0]
        for href in re.findall(r'href="(/article\?[^"]+)"', page)
    ]


def test_the_page_lists_the_newest_that_pass_with_their_number_and_further_pages(
    client: httpx2.Client, web_instance: Instance
) -> None:
    wanted = web_instance.browse({"category": "Library"}, k=25)
    found: list[str] = []
    address = "/?category=Library"
    for _ in range(2):
        page = client.get(address, headers=HTML).text
        assert f"<strong>{wanted.total:,}</strong>" in page
        assert '<option value="Library" selected>' in page
        assert "Latest articles" not in page
        found += uris_of(page)
        more = re.search(r'<a href="([^"]+)" rel="next">', page)
        assert more is not None
        address = html.unescape(more[1])
        assert "category=Library" in address
    assert found == [hit.uri for hit in wanted.hits[:20]]
    fragment = client.get("/?category=Library", headers=HTML | {"hx-request": "true"})
    assert fragment.text.count("<article") == 10
    assert fragment.headers["hx-push-url"] == "/?category=Library"


def test_filters_that_nothing_passes_are_told_and_can_be_left(client: httpx2.Client) -> None:
    page = client.get("/?category=Library&until=1980", headers=HTML).text
    assert "<strong>No</strong> articles" in page
    assert "No article matches these filters" in page
    refused = client.get("/?since=never", headers=HTML)
    assert refused.status_code == 422
    assert "Since is not a date" in refused.text


def test_the_api_answers_filters_alone(client: httpx2.Client, web_instance: Instance) -> None:
    wanted = web_instance.browse({"category": "Library", "since": "2022"}, k=4)
    by_address = client.get("/api/search?category=Library&since=2022&k=4")
    by_body = client.post("/api/search", json={"category": "Library", "since": "2022", "k": 4})
    for answer in (by_address, by_body):
        assert answer.status_code == 200
        found = answer.json()
        assert (found["mode"], found["strategy"], found["total"]) == ("browse", "newest", wanted.total)
        assert found["total_is_estimate"] is False
        assert [hit["uri"] for hit in found["hits"]] == [hit.uri for hit in wanted.hits]
        assert found["next_cursor"] == wanted.next_cursor
    further = client.get("/api/search", params={"category": "Library", "since": "2022", "after": wanted.next_cursor})
    assert further.json()["hits"][0]["uri"] not in {hit.uri for hit in wanted.hits}
    schema = client.get("/openapi.json").json()["components"]["schemas"]["AnswerOut"]
    assert set(found) <= set(schema["properties"]) | {"reason"}
    assert set(schema["required"]) <= set(client.get("/api/search?q=leak").json())


@pytest.mark.parametrize(
    ("query", "body"),
    [("", {}), ("q=%20", {"text": " "}), ("category=", {"category": ""}), ("k=3", {"k": 3})],
)
def test_nothing_at_all_is_still_no_search(client: httpx2.Client, query: str, body: dict[str, object]) -> None:
    refused = client.get(f"/api/search?{query}")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/query-inapplicable")
    assert client.post("/api/search", json=body).status_code == 422


def test_what_compares_texts_needs_one(client: httpx2.Client) -> None:
    for option in ("min_similarity=0.5", "diversity=0.3"):
        refused = client.get(f"/api/search?category=Library&{option}")
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/query-inapplicable")


def test_a_tag_narrows_the_search_that_shows_it(client: httpx2.Client) -> None:
    page = client.get("/?q=memory+leak&topic=Python+3.11&since=2021&mode=semantic", headers=HTML).text
    tags = [
        html.unescape(href)
        for href in re.findall(r'<a class="tag" href="([^"]+)"><span class="visually-hidden">category', page)
    ]
    assert tags
    for tag in tags:
        asked = parse_qs(urlsplit(tag).query)
        assert asked["q"] == ["memory leak"]
        assert (asked["topic"], asked["since"], asked["mode"]) == (["Python 3.11"], ["2021"], ["semantic"])
        assert len(asked["category"]) == 1
        narrowed = client.get(tag, headers=HTML).text
        assert "No article matches" not in narrowed


def test_a_tag_of_an_article_lists_the_newest_of_its_kind(client: httpx2.Client, web_instance: Instance) -> None:
    uri = web_instance.browse({"category": "Library"}, k=1).hits[0].uri
    page = client.get("/article", params={"uri": uri}, headers=HTML).text
    assert 'class="tag" href="/?category=Library"' in page


def test_a_condition_filters_in_addresses_bodies_and_on_the_page(client: httpx2.Client, web_instance: Instance) -> None:
    condition = {"category": {"$in": ["Library", "Tests"]}, "publication_date": {"$gte": "2021"}}
    wanted = [hit.uri for hit in web_instance.browse({**condition, "topic": {"$ne": None}}, k=5).hits]
    text = json.dumps(condition | {"topic": {"$exists": True}})
    by_address = client.get("/api/search", params={"filter": text, "k": 5})
    by_body = client.post("/api/search", json={"filter": json.loads(text), "k": 5})
    for answer in (by_address, by_body):
        assert answer.status_code == 200, answer.text
        assert [hit["uri"] for hit in answer.json()["hits"]] == wanted
        assert answer.json()["mode"] == "browse"
    searched = client.get("/api/search", params={"q": "crash", "filter": text, "category": "Tests"}).json()
    assert {hit["category"] for hit in searched["hits"]} == {"Tests"}
    many = client.post("/api/search/many", json={"texts": ["crash"], "filter": condition, "k": 3}).json()
    assert {hit["category"] for hit in many["answers"][0]["hits"]} <= {"Library", "Tests"}
    alike = client.get("/api/similar", params={"uri": wanted[0], "filter": '{"category": "Tests"}', "k": 3}).json()
    assert [hit["category"] for hit in alike["hits"]] == ["Tests"] * 3
    page = client.get("/", params={"filter": text, "q": "crash", "category": "Tests"}, headers=HTML).text
    assert html.escape(text, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    removal = re.search(r'<a href="([^"]+)">Remove', page)
    assert removal is not None
    assert parse_qs(urlsplit(html.unescape(removal[1])).query) == {"q": ["crash"], "category": ["Tests"]}
    tag = re.search(r'class="tag" href="([^"]+)"', page)
    assert tag is not None
    assert parse_qs(urlsplit(html.unescape(tag[1])).query)["filter"] == [text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"), ("[]", "not a JSON object"), ('{"nowhere": 1}', "has no column nowhere"),
        ('{"category": 5}', "is a number"), ('{"category": {"$what": 5}}', "no operator $what"),
        ('{"embedding": 5}', "holds the vectors"),
    ],
)  # fmt: skip
def test_a_condition_that_does_not_fit_is_refused_by_the_api_and_on_the_page(
    client: httpx2.Client, text: str, said: str
) -> None:
    for path in ("/api/search", "/api/similar"):
        refused = client.get(path, params={"filter": text, "q": "crash", "uri": "x"})
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/filter-invalid")
        assert said in refused.json()["title"]
    page = client.get("/", params={"filter": text}, headers=HTML)
    assert page.status_code == 409
    assert said.replace("$", "$") in html.unescape(page.text)


# --- facets ----------------------------------------------------------------------------------------------------------


def test_the_api_counts_values_of_the_result(client: httpx2.Client, web_instance: Instance) -> None:
    wanted = web_instance.browse({"category": "Library"}, k=1, facets=("topic", "publication_date")).facets
    assert wanted is not None
    by_address = client.get("/api/search?category=Library&k=1&facets=topic,publication_date").json()
    by_body = client.post(
        "/api/search", json={"category": "Library", "k": 1, "facets": ["topic", "publication_date"]}
    ).json()
    assert by_address["facets"] == by_body["facets"] == wanted.as_dict()
    assert by_body["facets"]["source"] == "filters"
    assert "facets" not in client.get("/api/search?category=Library&k=1").json()
    words = client.get("/api/search?q=memory&k=1&facets=category").json()["facets"]
    assert (words["source"], words["is_complete"]) == ("words", True)
    refused = client.get("/api/search?q=memory&facets=categry")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/query-inapplicable")
    assert client.post("/api/search", json={"text": "x", "facets": [""]}).status_code == 422


def test_the_page_counts_values_beside_links_that_narrow_the_result(
    client: httpx2.Client, web_instance: Instance
) -> None:
    wanted = web_instance.browse({"since": "2022"}, k=1, facets=("category",)).facets
    assert wanted is not None
    first = wanted.values["category"][0]
    page = client.get("/?since=2022", headers=HTML).text
    aside = page[page.index('<aside class="narrowing"') : page.index("</aside>")]
    link = re.search(
        rf'<a class="tag" href="([^"]+)">{re.escape(html.escape(str(first.value)))} '
        rf'<span class="count">{first.rows:,}</span>',
        aside,
    )
    assert link is not None, aside
    narrowed = client.get(html.unescape(link[1]), headers=HTML).text
    assert "<span>Category</span>" in aside
    assert "<span>Category</span>" not in narrowed  # it is chosen now
    assert f"<strong>{first.rows:,}</strong>" in narrowed
    bar = re.search(r'<a href="([^"]+)" aria-label="([0-9-]+): ([0-9,]+)">', aside)
    assert bar is not None
    query = parse_qs(urlsplit(html.unescape(bar[1])).query)
    assert query["since"] == query["until"] == [bar[2]]
    assert f"<strong>{bar[3]}</strong>" in client.get(html.unescape(bar[1]), headers=HTML).text
    further = re.search(r'<a href="([^"]+)" rel="next">', page)
    assert further is not None
    assert "narrowing" not in client.get(html.unescape(further[1]), headers=HTML).text
