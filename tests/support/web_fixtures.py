"""Fixtures of the web tests: an instance of its own, served on a free port, and a browser where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.settings import Settings
from everindex.web.serving import serve_in_thread
from roles_of_tests import as_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: Text that would run in a page that escapes less than everything.
HOSTILE = (
    "<script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "'; window.hacked=1; //",
    "<svg/onload=window.hacked=1>",
    "{{ 7*7 }}${7*7}<%= 7*7 %>",
    '<a hx-get="javascript:window.hacked=1" hx-trigger="load">x</a>',
    "</title><script>window.hacked=1</script>",
    "</template></textarea></select><script>window.hacked=1</script>",
)


def hostile_articles() -> list[Article]:
    """Articles whose every field tries to run; the first has a javascript: link for its uri."""
    return [
        Article(
            uri="javascript:window.hacked=1" if number == 0 else f"https://hostile.example/{number}?{text}",
            title=f"hostile {text}",
            summary=f"hostile {text} summary",
            category=text,
            topic=text,
            news_source=text,
            publication_date="2023-01-01",
            tags=(text,),
            sentiment=text,
            sentiment_explanation=text,
            raw_text=text,
            driver_type=text,
            quality_score=0.5,
        )
        for number, text in enumerate(HOSTILE)
    ]


@pytest.fixture(scope="session")
def web_instance(cluster: Any, read_only_instance: Instance) -> Iterator[Instance]:
    """An open instance of the web tests alone, with 1,500 articles of the sample and a few hostile ones, as the role of the web
    application."""
    conninfo = as_app(cluster.database("with_articles"))  # the template that read_only_instance has made
    with connect_instance(conninfo, settings=Settings()) as opened:
        opened.upsert(hostile_articles())
        yield opened


@pytest.fixture(scope="session")
def web_url(web_instance: Instance) -> Iterator[str]:
    """The address of a server of `web_instance`."""
    with serve_in_thread(web_instance) as url:
        yield url


@pytest.fixture
def client(web_url: str) -> Iterator[httpx2.Client]:
    """A client of `web_url` that follows no redirect, as a program and not as a browser."""
    with httpx2.Client(base_url=web_url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Without it the test is skipped, but on a CI machine it fails."""
    if not (Path(CHROMIUM).is_file() or shutil.which(CHROMIUM)):
        reason = f"no Chromium at {CHROMIUM} (set CHROMIUM to its path)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield opened
        opened.close()
