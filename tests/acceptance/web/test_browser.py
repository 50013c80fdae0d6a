"""The pages in a real browser: with and without scripts, by keyboard, for everybody, and talking to no other host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from everindex.articles.instance import Instance
from everindex.web.serving import serve_in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = [
    "/", "/?q=memory+leak&category=Library", "/saved", "/incidents",
    "/incident?incident_name=none&topic=none", "/index", "/docs", "/?category=Library",
    "/?q=memory&sort=newest&category=Library&since=2020",
    "/problems/server-busy", "/doctor/index-cold", "/manual/settings", "/doctor", "/article?uri=nowhere", "/?q=crash&since=never",
]  # fmt: skip
HOSTILE_SEARCH = "/?q=%3Cscript%3Ewindow.hacked%3D1%3C/script%3E&category=%22%3E%3Csvg/onload%3Dhacked%3D1%3E"


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of a fresh profile; fails when anything was asked of another host, or anything was reported as wrong."""
    context = browser.new_context(base_url=url, **options)
    wrong: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        # The browser reports a page's own status 404 or 422 as an error of the console; that is the page's answer.
        lambda message: (
            wrong.append(message.text)
            if message.type in ("error", "warning") and "the server responded with a status of" not in message.text
            else None
        ),
    )
    try:
        yield page
        assert wrong == []
        assert page.evaluate("window.hacked") is None if options.get("java_script_enabled", True) else True
    finally:
        context.close()


def test_no_page_asks_another_host_or_breaks_its_own_policy(browser: Browser, web_url: str) -> None:
    with opened(browser, web_url) as page:
        for path in PAGES:
            page.goto(path)
            page.wait_for_timeout(100)  # scripts that run after loading have run


def test_every_page_is_usable_without_scripts(browser: Browser, web_url: str) -> None:
    with opened(browser, web_url, java_script_enabled=False) as page:
        page.goto("/")
        page.get_by_role("searchbox").fill("memory leak in the parser")
        page.get_by_role("button", name="Search").click()
        assert page.locator(".hit").count() == 10
        page.locator(".hit h2 a").first.click()
        assert page.get_by_role("heading", name="Similar articles").is_visible()
        page.get_by_role("link", name="Incidents").click()
        page.get_by_label("Name").fill("without scripts")
        page.get_by_label("Topic").fill("browser")
        page.get_by_role("button", name="Create").click()
        row = page.locator(".incident", has_text="without scripts")
        row.get_by_role("combobox").select_option("resolved")
        row.get_by_role("button").click()
        assert page.locator(".incident", has_text="without scripts").locator(".mark").inner_text() == "resolved"
        page.get_by_role("link", name="Index", exact=True).click()
        assert page.get_by_text("Is the database migrated or attached?").is_visible()
        page.get_by_role("link", name="API", exact=True).click()
        assert page.get_by_text("/api/similar").first.is_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_statuses_of_an_existing_instance_are_shown_and_kept(
    browser: Browser, instance: Instance, scripts: bool
) -> None:
    with instance.connection() as connection:
        connection.execute(
            "INSERT INTO incident_status (incident_name, topic, status) VALUES ('old one', 'news', 'deleted'), "
            "('another', 'news', 'active')"
        )

    def status(name: str) -> tuple[str | None, ...] | None:
        with instance.connection() as connection:
            return connection.execute("SELECT status FROM incident_status WHERE incident_name = %s", (name,)).fetchone()

    with serve_in_thread(instance) as url, opened(browser, url, java_script_enabled=scripts) as page:
        page.goto("/incidents")
        old = page.locator(".incident", has_text="old one")
        assert old.locator(".mark").inner_text() == "deleted"
        assert old.get_by_role("combobox").input_value() == "deleted"
        old.get_by_role("button").click()  # nothing was chosen, and nothing changes
        assert old.locator(".mark").inner_text() == "deleted"
        assert status("old one") == ("deleted",)
        page.get_by_role("navigation", name="Status").get_by_role("link", name="deleted").click()
        page.wait_for_url("**/incidents?status=deleted")
        assert page.locator(".incident").count() == 1
        page.goto("/incidents")
        old.get_by_role("combobox").select_option("resolved")
        old.get_by_role("button").click()
        page.goto("/incidents")
        assert old.locator(".mark").inner_text() == "resolved"
    assert (status("old one"), status("another")) == (("resolved",), ("active",))


def test_results_come_while_writing_and_going_back_brings_the_page_back(browser: Browser, web_url: str) -> None:
    with opened(browser, web_url) as page:
        page.goto("/")
        page.get_by_role("searchbox").type("memory leak", delay=20)
        page.locator(".result-line").wait_for()
        page.wait_for_url("**/?q=memory+leak")
        assert page.evaluate("document.activeElement.id") == "q", "the focus stays where one writes"
        assert page.locator("#announcement").inner_text() == "10 articles found"
        assert page.title() == "memory leak · everindex"
        page.get_by_text("Filters").click()
        page.get_by_label("Category").select_option("Library")
        page.wait_for_url("**/?q=memory+leak&category=Library")
        page.go_back()
        page.wait_for_url("**/?q=memory+leak")
        assert page.get_by_role("searchbox").input_value() == "memory leak"
        page.locator(".result-line").wait_for()


def test_a_search_needs_no_mouse(browser: Browser, web_url: str) -> None:
    with opened(browser, web_url) as page:
        page.goto("/?q=crash")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "q"
        page.keyboard.type("regular expressions")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=regular+expressions")
        page.locator(".result-line").wait_for()
        page.keyboard.press("Tab")  # the button
        page.keyboard.press("Tab")  # the mode
        page.keyboard.press("Tab")  # the filters
        page.keyboard.press("Enter")
        assert page.get_by_label("Category").is_visible()
        page.keyboard.press("j")
        title = page.evaluate("document.activeElement.innerText")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert title == page.locator(".hit h2 a").first.inner_text()
        assert outline == "solid"
        page.keyboard.press("Enter")
        page.wait_for_url("**/article?uri=*")
        assert page.get_by_role("heading", level=1).inner_text() == title
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Skip to content"


def test_hostile_articles_never_run(browser: Browser, web_url: str, web_instance: Instance) -> None:
    uris = [hit.uri for hit in web_instance.search("hostile", k=40).hits if "hostile" in (hit.title or "")]
    with opened(browser, web_url) as page:
        for path in ("/?q=hostile&k=40", "/incidents", HOSTILE_SEARCH):
            page.goto(path)
            page.wait_for_timeout(100)  # scripts that run after loading have run
            assert page.evaluate("window.hacked") is None
        for uri in uris:
            page.goto("/article")
            page.evaluate("uri => location.assign('/article?' + new URLSearchParams({uri}))", uri)
            page.get_by_role("heading", name="Similar articles").wait_for()
            page.locator("summary").first.click()
            assert page.evaluate("window.hacked") is None
            assert page.locator("a[href^='javascript' i]").count() == 0


#: The axe rules of each colour scheme: what colours change is contrast; all else is the same in both.
SCHEMES: dict[Literal["light", "dark"], dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {"resultTypes": ["violations"], "runOnly": ["color-contrast", "link-in-text-block"]},
}


def test_no_page_has_a_barrier_in_either_colour_scheme(browser: Browser, web_url: str, web_instance: Instance) -> None:
    from axe_playwright_python.sync_playwright import Axe

    uri = web_instance.search("crash", k=1).hits[0].uri
    found: dict[tuple[str, str], list[str]] = {}
    # Without motion: a colour that still changes has any contrast.
    with opened(browser, web_url, bypass_csp=True, reduced_motion="reduce") as page:
        for path in [*PAGES, f"/article?uri={uri}", f"/similar?uri={uri}", "/?q=POSIX+semaphores+on+NetBSD"]:
            page.goto(path)
            page.wait_for_timeout(100)  # scripts that run after loading have run
            for scheme, options in SCHEMES.items():
                page.emulate_media(color_scheme=scheme)
                violations = Axe().run(page, options=options).response["violations"]
                bad = [f"{violation['id']}: {violation['nodes'][0]['html'][:200]}" for violation in violations]
                if bad:
                    found[path, scheme] = bad

    assert found == {}


def test_every_page_fits_a_narrow_screen(browser: Browser, web_url: str) -> None:
    with opened(browser, web_url, viewport={"width": 360, "height": 740}) as page:
        for path in PAGES:
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


@pytest.mark.parametrize("address", ["/", "/?q=memory+leak", "/?category=Library", "/incidents"])
def test_the_first_tab_reaches_the_way_past_the_navigation(browser: Browser, web_url: str, address: str) -> None:
    page = browser.new_page()
    try:
        page.goto(f"{web_url}{address}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        page.wait_for_function("document.activeElement.id === 'main'")
    finally:
        page.close()


@pytest.mark.parametrize("width", [320, 375, 768, 1200, 1920])
def test_a_date_is_shown_whole_at_every_width(browser: Browser, web_url: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    try:
        page.goto(f"{web_url}/?category=Library&since=2020-12-28&until=2022-12-28")
        shown, needed = page.evaluate(
            """() => {
                const fields = [...document.querySelectorAll('.fields input[type=date]')];
                const shown = Math.min(...fields.map(field => field.getBoundingClientRect().width));
                for (const field of fields) field.style.width = 'max-content';
                return [shown, Math.max(...fields.map(field => field.getBoundingClientRect().width))];
            }"""
        )
        assert shown >= needed
    finally:
        page.close()
