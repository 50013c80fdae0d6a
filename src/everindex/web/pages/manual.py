"""The documentation pages: `/problems/SLUG`, the type URI of every error, `/doctor/RULE`, and `/manual/NAME`.

They are the Markdown files of docs/, included in the wheel. HTML in them is escaped; a link leads to a page here or to
an http address, otherwise only its text is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import markupsafe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from everindex.errors import PageNotFound
from everindex.web.pages.render import page
from everindex.web.site import site_of

#: The path under which a directory of docs/ is served → its title.
SHELVES = {"problems": "Problems", "doctor": "Doctor rules", "manual": "Manual"}
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TARGET = re.compile(r"(?P<up>\.\./)?(?:(?P<folder>[a-z]+)/)?(?P<name>[a-z0-9-]+)\.md(?P<place>#[A-Za-z0-9-]+)?")
_HEADING = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualPage:
    """A rendered documentation file."""

    title: str
    html: markupsafe.Markup


def add_routes(app: Starlette) -> None:
    """Adds the pages to the application."""
    for shelf in SHELVES:
        app.add_route(f"/{shelf}", _list_of(shelf), include_in_schema=False)
        app.add_route(f"/{shelf}/{{name}}", _page_of(shelf), include_in_schema=False)


@cache
def names(shelf: str) -> tuple[str, ...]:
    """The names of the pages of a shelf."""
    return tuple(sorted(path.stem for path in _folder(shelf).glob("*.md") if _NAME.fullmatch(path.stem)))


@cache
def manual_page(shelf: str, name: str) -> ManualPage:
    """A page. Raises PageNotFound."""
    # The name is looked up and never used as a path, so a URL cannot leave the folder.
    if name not in names(shelf):
        raise PageNotFound(
            "no page exists at this address.",
            why=f"{SHELVES[shelf]}: no page has this name.",
            next_step=f"choose one from the list,  /{shelf} .",
        )
    return _rendered((_folder(shelf) / f"{name}.md").read_text(encoding="utf-8"), shelf=shelf)


def _page_of(shelf: str) -> Any:
    async def answer(request: Request) -> Response:
        def render() -> Response:
            found = manual_page(shelf, request.path_params["name"])
            return page("manual.html", found=found, shelf=shelf, called=SHELVES[shelf], here="")

        return await site_of(request).compute(render, characters=0)

    return answer


def _list_of(shelf: str) -> Any:
    async def answer(request: Request) -> Response:
        def render() -> Response:
            pages = [(name, _title(shelf, name)) for name in names(shelf)]
            return page("manual_list.html", pages=pages, shelf=shelf, called=SHELVES[shelf], shelves=SHELVES, here="")

        return await site_of(request).compute(render, characters=0)

    return answer


@cache
def _title(shelf: str, name: str) -> str:
    """The heading of a page, read without rendering it."""
    with (_folder(shelf) / f"{name}.md").open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip() or name


def _folder(shelf: str) -> Path:
    package = Path(__file__).parents[2]
    packed = package / "_manual"
    docs = packed if packed.is_dir() else package.parent.parent / "docs"
    return docs if shelf == "manual" else docs / shelf


def _rendered(text: str, *, shelf: str) -> ManualPage:
    from markdown_it import MarkdownIt  # 30 ms that only a reader of these pages pays

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    title = "everindex"
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            words = tokens[number + 1].content
            token.attrSet("id", _HEADING.sub("", words.lower()).replace(" ", "-"))
            if token.tag == "h1":
                title = words
        elif token.type in ("fence", "code_block"):
            token.attrSet("tabindex", "0")  # it may scroll, and then has to be reached with the keyboard
        for child in token.children or ():
            if child.type == "link_open":
                target = _address(str(child.attrGet("href")), shelf=shelf)
                if target is None:
                    child.tag, child.attrs = "span", {}
                else:
                    child.attrSet("href", target)
    _close_as_opened(tokens)
    return ManualPage(title=title, html=markupsafe.Markup(parser.renderer.render(tokens, parser.options, {})))


def _close_as_opened(tokens: list[Any]) -> None:
    for token in tokens:
        opened: list[str] = []
        for child in token.children or ():
            if child.type == "link_open":
                opened.append(child.tag)
            elif child.type == "link_close":
                child.tag = opened.pop()


def _address(target: str, *, shelf: str) -> str | None:
    """The address here of a link in a file; None for a target that is not served."""
    if target.startswith(("https://", "http://", "#")):
        return target
    match = _TARGET.fullmatch(target)
    if match is None:
        return None
    folder = match["folder"] or ("manual" if match["up"] or shelf == "manual" else shelf)
    if folder not in SHELVES or match["name"] not in names(folder):
        return None
    return f"/{folder}/{match['name']}{match['place'] or ''}"
