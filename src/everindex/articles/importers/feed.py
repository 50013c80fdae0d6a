"""The articles of a feed: RSS, Atom, RDF or JSON Feed. Nothing is fetched from the network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from everindex.articles.importers.feed_entries import Feed, read_entries
from everindex.articles.importers.html_text import html_text
from everindex.articles.importers.opening import OpenSource
from everindex.articles.importers.row import RefusedError, read_text
from everindex.articles.importers.text_encodings import decode_text
from everindex.articles.model import Article, RowProblem

_DECLARATION = re.compile(r"\s*<\?xml\b([^<>]{0,300})\?>")
_ENCODING = re.compile(rb"""\s*<\?xml\b[^<>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._:-]{1,30})["']""")


def read_feed(
    opened: OpenSource, *, defaults: Mapping[str, str], base: str | None = None
) -> Iterator[Article | RowProblem]:
    """One item per entry, with the entry's number from 1 as `line`, and notes. Raises SourceUnreadable above 50 MB.

    `base` is the address of the feed; relative links are resolved against it where the feed gives none.
    """
    data = opened.read_whole()
    declared = _ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
    is_utf8 = opened.encoding is not None or declared is None
    text, is_damaged = decode_text(data, None if is_utf8 or declared is None else declared[1].decode("ascii"))
    text = text[match.end() :] if (match := _DECLARATION.match(text)) else text
    feed = _parsed(opened, text, is_damaged=is_damaged)
    defaults = {**_feed_title(feed), **defaults}
    yield from read_entries(opened, feed, defaults=defaults, base=base)
    yield from opened.problem_at_end(len(feed.entries) + 1)


def _parsed(opened: OpenSource, text: str, *, is_damaged: bool) -> Feed:
    # Imported here, so that a parser is loaded only when needed.
    if text.lstrip().startswith("{"):
        from everindex.articles.importers.json_feed import read_json_feed

        return read_json_feed(opened, text)
    from everindex.articles.importers.feed_xml import read_xml_feed

    return read_xml_feed(opened, text, is_damaged=is_damaged)


def _feed_title(feed: Feed) -> dict[str, str]:
    """The feed's title, as the news source of entries without one, if it is a valid value."""
    try:
        title = read_text("news_source", " ".join(html_text(feed.title or "").split()))
    except RefusedError:
        return {}
    return {"news_source": title} if title else {}
