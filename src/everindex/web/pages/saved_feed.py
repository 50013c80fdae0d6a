"""The feed of a saved search: its newest answers as RSS 2.0 (https://www.rssboard.org/rss-specification). Pure.

An item's guid is the uri of its article, which never changes. Titles are plain text; a description is HTML by the
specification, so the summary is escaped for HTML first.
"""

from __future__ import annotations

import datetime as dt
import html
import re
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from everindex.articles.model import Answer
from everindex.articles.saved_searches import SavedSearch, moment_of
from everindex.web.pages.render import address, safe_link

MEDIA_TYPE = "application/rss+xml"
ATOM = "http://www.w3.org/2005/Atom"
#: Minutes for which a reader should not ask again.
TTL_MINUTES = 15
#: Characters that XML 1.0 does not have.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ElementTree.register_namespace("atom", ATOM)


def feed_path(name: str) -> str:
    """The address of a feed on its server."""
    return f"/saved/{quote(name, safe='')}.rss"


def rss_of(search: SavedSearch, found: Answer, *, site: str, page: str) -> bytes:
    """The document. `site` is the address of the server without a path, `page` the path of the search on it."""
    root = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(root, "channel")
    _add(channel, "title", f"{search.name} · everindex")
    _add(channel, "link", site + page)
    _add(channel, "description", _about(search))
    ElementTree.SubElement(channel, f"{{{ATOM}}}link", href=site + feed_path(search.name), rel="self", type=MEDIA_TYPE)
    _add(channel, "ttl", str(TTL_MINUTES))
    for hit in found.hits:
        item = ElementTree.SubElement(channel, "item")
        _add(item, "title", hit.title or hit.uri)
        _add(item, "link", safe_link(hit.uri) or site + address("/article", uri=hit.uri))
        _add(item, "guid", hit.uri).set("isPermaLink", "false")
        if hit.summary:
            _add(item, "description", html.escape(hit.summary, quote=False))
        for value in (hit.category, hit.topic):
            if value:
                _add(item, "category", value)
        date = _date(hit.publication_date)
        if date is not None:
            _add(item, "pubDate", date)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _about(search: SavedSearch) -> str:
    least = "" if search.min_similarity is None else f" with similarity {search.min_similarity:g} or more"
    of = "articles that pass its filters" if search.text is None else f"articles about {search.text!r}{least}"
    return f"The newest {of}."


def _date(text: Any) -> str | None:
    """The date in the form of RFC 822; None where the article has none that the form can say."""
    moment: dt.datetime | None = moment_of(text)
    return None if moment is None else format_datetime(moment)


def _add(parent: ElementTree.Element, name: str, text: str) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, name)
    made.text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
    return made
