"""The reader of JSON Feed 1.0 and 1.1 (https://www.jsonfeed.org/version/1.1/).

A truncated or broken document gives the items before the fault, and a problem that says where it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from everindex.articles.importers.feed_entries import Entry, Feed
from everindex.articles.importers.html_text import html_text, looks_like_html
from everindex.articles.importers.opening import OpenSource, unreadable
from everindex.articles.model import RowProblem

_ITEMS = re.compile(r'"items"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
_TOP_LEVEL_TEXT = re.compile(r'"(title|home_page_url|feed_url|language)"\s*:\s*("(?:[^"\\]|\\.){0,2000}")')


def read_json_feed(opened: OpenSource, text: str) -> Feed:
    """The feed in `text`. Raises SourceUnreadable when it has no items at all."""
    problems: list[RowProblem] = []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        document, count = _salvaged(text)
        reason = f"the rest could not be read: {opened.damage or f'not JSON that can be read: {exc}'}"
        problems.append(opened.problem(count + 1, reason))
    items = document.get("items") if isinstance(document, Mapping) else None
    if not isinstance(items, list):
        raise unreadable(
            opened.name,
            why="it declares itself a JSON Feed but has no list of items.",
            next_step="download the feed again; docs/importing.md shows what can be imported.",
        )
    home = _text(document.get("home_page_url"))
    links = (home, _text(document.get("feed_url")))
    return Feed(
        title=_text(document.get("title")),
        links=tuple(link for link in links if link),
        home=home,
        language=_text(document.get("language")),
        entries=[_entry(number, item) for number, item in enumerate(items, start=1)],
        problems=tuple(problems),
    )


def _salvaged(text: str) -> tuple[dict[str, Any], int]:
    """The readable part of a broken document, and its number of items."""
    found = _ITEMS.search(text)
    if found is None:
        return {}, 0
    document: dict[str, Any] = {
        name: json.loads(value, strict=False) for name, value in _TOP_LEVEL_TEXT.findall(text[: found.start()])
    }
    items: list[object] = []
    position = found.end()
    decoder = json.JSONDecoder(strict=False)
    try:
        while True:
            position = _after(text, position)
            item, position = decoder.raw_decode(text, position)
            items.append(item)
    except (ValueError, RecursionError):
        return document | {"items": items}, len(items)


def _after(text: str, position: int) -> int:
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


def _entry(number: int, item: object) -> Entry:
    if not isinstance(item, Mapping):
        return Entry(number=number, problem="it is not a JSON object")
    content_html, content_text = _text(item.get("content_html")), _text(item.get("content_text"))
    content = html_text(content_html) if content_html else content_text or ""
    title, summary = _text(item.get("title")), _text(item.get("summary"))
    attachments = [one for one in _list(item.get("attachments")) if isinstance(one, Mapping)]
    titles = [shown for one in attachments if (shown := _text(one.get("title")))]
    published, modified = _text(item.get("date_published")), _text(item.get("date_modified"))
    return Entry(
        number=number,
        link=_text(item.get("url")) or (None if _text(item.get("id")) else _text(item.get("external_url"))),
        id=_text(item.get("id")),
        title=" ".join((html_text(title) if title and looks_like_html(title) else title or "").split()) or None,
        summary=summary or content or "; ".join(titles) or None,
        raw_text=content or None,
        dates=tuple(date for date in (published, modified) if date),
        revised=modified,
        tags=tuple(tag for one in _list(item.get("tags")) if (tag := _text(one))),
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _text(value: object) -> str | None:
    """Non-empty text; numbers are converted, as the format requires for ids."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # more digits than Python writes out
            return None
    return value.strip() or None if isinstance(value, str) else None
