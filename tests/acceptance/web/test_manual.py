"""The documentation on the server: every problem and rule has its page there, safe and without loose ends."""

from __future__ import annotations

import html
import re

import httpx2
import pytest

from everindex.web.pages.manual import SHELVES, names

HTML = {"accept": "text/html"}


def test_the_type_of_a_problem_leads_to_its_page(client: httpx2.Client) -> None:
    refused = client.get("/api/search?q=leak&k=0")
    page = client.get(refused.json()["type"])
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<h1 id="query-invalid">query-invalid</h1>' in page.text
    assert "What to do" in page.text
    shown = client.get("/?q=leak&k=0", headers=HTML).text
    assert '<a href="/problems/query-invalid">' in shown


@pytest.mark.parametrize("shelf", SHELVES)
def test_every_page_is_served_in_the_frame_and_its_links_lead_somewhere(client: httpx2.Client, shelf: str) -> None:
    listed = client.get(f"/{shelf}").text
    places: dict[str, set[str]] = {}
    links: set[str] = set()
    for name in names(shelf):
        page = client.get(f"/{shelf}/{name}")
        assert page.status_code == 200, name
        assert "Skip to content" in page.text
        assert "default-src" in page.headers["content-security-policy"]
        body = page.text.split('<article class="manual">')[1].split("</article>")[0]
        assert re.search(r"<(?:script|style|iframe|img|form)|<[^>]*\s(?:on\w+|style)=", body) is None, name
        assert body.count("<a ") == body.count("</a>"), name
        assert body.count("<h1") == 1, name
        heading = re.sub("<[^>]+>", "", body.split("<h1")[1].split("</h1>")[0].partition(">")[2])
        assert f'<a href="/{shelf}/{name}">{heading}</a>' in listed
        places[f"/{shelf}/{name}"] = set(re.findall(r' id="([^"]+)"', body))
        links |= {html.unescape(href) for href in re.findall(r'<a href="([^"]+)"', body)}
    assert names(shelf)
    for link in sorted(links):
        if link.startswith(("http://", "https://")):
            continue
        address, _, place = link.partition("#")
        found = client.get(address) if address else None
        assert found is None or found.status_code == 200, link
        if place and found is not None:
            assert f'id="{place}"' in found.text, link


@pytest.mark.parametrize(
    "address",
    ["/problems/none-such", "/problems/%2e%2e%2fsettings", "/problems/settings.md", "/doctor/README",
     "/manual/problems%2Fserver-busy", "/problems/SERVER-BUSY", "/manual/<script>", "/problems/server-busy/x"],
)  # fmt: skip
def test_what_is_no_page_is_not_found(client: httpx2.Client, address: str) -> None:
    refused = client.get(address)
    assert refused.status_code == 404
    assert refused.json()["type"] == "/problems/page-not-found"
    assert "<script>" not in client.get(address, headers=HTML).text


def test_a_page_takes_no_other_method(client: httpx2.Client) -> None:
    assert client.post("/problems/server-busy", json={}).status_code == 405
    assert client.head("/problems/server-busy").status_code == 200
