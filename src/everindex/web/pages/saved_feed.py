"""The feed of a saved search: its newest answers as RSS 2.0 (https://www.rssboard.org/rss-specification). Pure.

An item's guid is the uri of its article, which never changes. Titles are plain text; a description is HTML by the
specification, so the summary is escaped for HTML first.
"""

from __future__ import annotations

import html
import re
from email.utils import format_datetime
from urllib.parse import quote
from xml.etree import ElementTree

from everindex.articles.model import Answer
from everindex.articles.saved_searches import SavedSearch, date_of
from everindex.articles.search.keyword.snippet import title_and_body
from everindex.web.pages.render import address, safe_link

MEDIA_TYPE = "application/rss+xml"
ATOM = "http://www.w3.org/2005/Atom"
#: Minutes for which a reader should not ask again.
TTL_MINUTES = 15
#: Of the text of a row without a title.
TITLE_CHARACTERS = 100
#: Characters that XML 1.0 does not have.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ElementTree.register_namespace("atom", ATOM)


def feed_path(name: str) -> str:
    """The address of a feed on its server."""
    return f"/saved/{quote(name, safe='')}.rss"


def rss_of(search: SavedSearch, found: Answer, *, site: str, page: str, date: str | None) -> bytes:
    """The document. `site` is the address of the server without a path, `page` the path of the search on it, `date` the column
    with the dates of the hits."""
    root = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(root, "channel")
    _add(channel, "title", f"{search.name} · everindex")
    _add(channel, "link", site + page)
    _add(channel, "description", _about(search))
    ElementTree.SubElement(channel, f"{{{ATOM}}}link", href=site + feed_path(search.name), rel="self", type=MEDIA_TYPE)
    _add(channel, "ttl", str(TTL_MINUTES))
    for hit in found.hits:
        item = ElementTree.SubElement(channel, "item")
        title, body = title_and_body(hit)
        key = str(hit.key)
        own = f"/collections/{quote(search.collection, safe='')}/row" if search.collection is not None else None
        _add(item, "title", title or (body or "")[:TITLE_CHARACTERS] or key)
        shown = address("/article", uri=key) if own is None else address(own, key=key)
        _add(item, "link", safe_link(key) or site + shown)
        _add(item, "guid", key if own is None else f"{search.collection}/{key}").set("isPermaLink", "false")
        if body:
            _add(item, "description", html.escape(body, quote=False))
        for value in () if search.collection is not None else (hit.category, hit.topic):
            if value:
                _add(item, "category", value)
        moment = date_of(hit, date)
        if moment is not None:
            _add(item, "pubDate", format_datetime(moment))
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _about(search: SavedSearch) -> str:
    least = "" if search.min_similarity is None else f" with similarity {search.min_similarity:g} or more"
    rows = "articles" if search.collection is None else f"rows of {search.collection}"
    of = f"{rows} that pass its filters" if search.text is None else f"{rows} about {search.text!r}{least}"
    return f"The newest {of}."


def _add(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, name)
    made.text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
    return made
