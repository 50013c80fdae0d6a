"""One page for each error, and one error for each page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from everindex.errors import EverindexError
from repository import REPOSITORY
from source_trees import all_modules

PAGES = REPOSITORY / "docs" / "problems"


def errors(kind: type[EverindexError] = EverindexError) -> Iterator[type[EverindexError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from errors(narrower)


def slugs() -> set[str]:
    list(all_modules())
    return {error.slug for error in errors() if error.__module__.startswith("everindex.")}


def test_every_error_has_a_page_and_every_page_an_error() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == slugs()


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_shows_the_three_lines_and_says_why_and_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n\n## What it looks like\n\n```text\n{page.stem}: ")
    shown = text.split("```text\n", 1)[1].split("\n```", 1)[0]
    assert re.search(r"^  why:  \S.*\n  next: \S.*\Z", shown, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it looks like", "Why it happens", "What to do"]


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
