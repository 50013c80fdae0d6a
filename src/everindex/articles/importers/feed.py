"""Which articles does an RSS or Atom feed hold? Parsed from bytes that are already here; nothing is ever fetched.

feedparser reads what real feeds are made of. Before it sees a byte, this module bounds what a hostile feed can cost:
the encoding is decoded here, entity declarations and deep nesting are refused, and its parser for broken XML, whose
time grows faster than its input, gets small feeds only.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers import expat

import feedparser

from everindex.articles.importers.dates import MAX_DATE_CHARS, iso_date
from everindex.articles.importers.html_text import html_text, looks_like_html
from everindex.articles.importers.opening import OpenSource, unreadable
from everindex.articles.importers.row import RefusedError, read_row, read_text
from everindex.articles.model import Article, RowProblem
from everindex.errors import SourceUnreadable

#: XML that is not well-formed is read by feedparser's tolerant parser up to this size; the worst of 17 hostile
#: shapes of 250 kB took it 0.8 s.
MAX_BROKEN_BYTES = 256_000
#: Feeds are 4 to 6 elements deep, XHTML in them a few dozen.
MAX_DEPTH = 200
#: What may stand before the root element; feedparser's patterns for it are quadratic.
_MAX_PROLOG_CHARS = 16_000
_DECLARATION = re.compile(r"\s*<\?xml\b([^<>]{0,300})\?>")
_ENCODING = re.compile(rb"""\s*<\?xml\b[^<>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,30})["']""")
#: Encodings of feeds. Others, like punycode, are codecs of Python that decode in quadratic time.
_TEXT_ENCODING = re.compile(r"utf-?8|(us-)?ascii|latin-?1|(iso|windows|cp|koi8|gb|big5|shift|euc|mac|tis)[a-z0-9_-]*")
_CUT_OFF = {
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
}
_ROOT = re.compile(r"<(\w[\w.:-]*)")


def read_feed(opened: OpenSource, *, defaults: Mapping[str, str]) -> Iterator[Article | RowProblem]:
    """One item per entry, `line` being the number of the entry from 1. Raises SourceUnreadable above 50 MB."""
    text, is_damaged = _decoded(opened.read_whole())
    text = text[match.end() :] if (match := _DECLARATION.match(text)) else text
    data = text.encode("utf-8", "replace")
    _check_prolog(opened, text[:_MAX_PROLOG_CHARS])
    error, is_cut = _check_xml(opened, data)
    found = _parsed(opened, data)
    if not found.entries and not found.version:
        raise _no_feed(opened, f"it is XML, but neither RSS nor Atom{f' ({error})' if error else ''}.")
    defaults = {**_feed_title(found), **defaults}
    number = 0
    for number, entry in enumerate(found.entries, start=1):
        row = _row(entry)
        if is_cut and number == len(found.entries):
            yield opened.problem(number, "the feed ends within this entry or right after it")
        elif is_damaged and any("\ufffd" in str(value) for value in row.values()):
            yield opened.problem(number, "holds bytes that are not in the encoding of the feed")
        else:
            yield read_row(row, source=opened.name, line=number, defaults=defaults)
    if opened.damage is None and error is not None:
        yield opened.problem(number + 1, f"the XML is broken, entries may be missing or cut: {error}")
    yield from opened.problem_at_end(number + 1)


def _decoded(data: bytes) -> tuple[str, bool]:
    """The text of a feed, and whether bytes had to be replaced by U+FFFD."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif data.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    else:
        declared = _ENCODING.match(data)
        encoding = declared[1].decode("ascii").lower() if declared else "utf-8"
        if not _TEXT_ENCODING.fullmatch(encoding):
            encoding = "utf-8"
    try:
        return data.decode(encoding), False
    except LookupError:
        return data.decode("utf-8", "replace"), True
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True


def _no_feed(opened: OpenSource, why: str) -> SourceUnreadable:
    next_step = "import an RSS or Atom feed, JSONL or CSV; docs/importing.md shows what each looks like."
    return unreadable(opened.name, why=why, next_step=next_step)


def _check_prolog(opened: OpenSource, start: str) -> None:
    root = _ROOT.search(start)
    if root is None:
        raise _no_feed(opened, f"no XML element begins within its first {_MAX_PROLOG_CHARS:,} characters.")
    if "<!ENTITY" in start[: root.start()]:
        raise _entities(opened)
    if root[1].lower() == "opml":
        raise unreadable(
            opened.name,
            why="it is OPML, a list of the addresses of feeds, and an import fetches nothing from the network.",
            next_step="download the feeds that it lists and import those files.",
        )


def _entities(opened: OpenSource) -> SourceUnreadable:
    return _no_feed(opened, "it declares XML entities, which no feed needs and which can expand without bound.")


def _check_xml(opened: OpenSource, data: bytes) -> tuple[str | None, bool]:
    """Where the XML is broken, None when it is well-formed, and whether it is cut off.

    Raises SourceUnreadable for XML that would cost too much.
    """
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise _no_feed(opened, f"its elements are nested more than {MAX_DEPTH} deep.")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*declaration: object) -> None:
        raise _entities(opened)

    parser = expat.ParserCreate("utf-8", " ")  # with namespaces, as feedparser's parser for well-formed XML
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as exc:
        error = f"{expat.errors.messages[exc.code]}, line {exc.lineno}"
        if len(data) > MAX_BROKEN_BYTES:
            raise _no_feed(opened, f"its XML is broken ({error}).") from exc
        return error, exc.code in _CUT_OFF
    return None, False


def _parsed(opened: OpenSource, data: bytes) -> Any:
    try:
        # A stream, because feedparser takes bare bytes for the name of a file to open. Sanitising and resolving of
        # links within HTML are off: the HTML becomes plain text.
        return feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    except Exception as exc:  # feedparser lets through whatever its parts raise on hostile input, from many modules
        raise _no_feed(opened, f"feedparser cannot read it ({type(exc).__name__}).") from exc


def _feed_title(found: Any) -> dict[str, str]:
    """The feed's own title as news source of entries that name none, where it can be one."""
    try:
        title = read_text("news_source", " ".join(html_text(found.feed.get("title") or "").split()))
    except RefusedError:
        return {}
    return {"news_source": title} if title else {}


def _row(entry: Any) -> dict[str, object]:
    content = [_shown(part) for part in entry.get("content") or []]
    source = entry.get("source") or {}
    return {
        "uri": entry.get("link") or entry.get("id"),
        "title": " ".join(_shown(entry.get("title_detail")).split()),
        "summary": _shown(entry.get("summary_detail")),
        "raw_text": "\n\n".join(content),
        "news_source": source.get("title"),
        "publication_date": _date(entry),
        "tags": [tag.get("label") or tag.get("term") for tag in entry.get("tags") or []],
    }


def _shown(detail: Any) -> str:
    """The text of one of feedparser's details, stripped of HTML."""
    value: str = (detail or {}).get("value") or ""
    is_html = (detail or {}).get("type") != "text/plain" or looks_like_html(value)
    return html_text(value) if is_html else value.strip()


_DATES: Final = ("published", "updated", "created")


def _date(entry: Any) -> str | None:
    """The first date that the entry gives, kept as it stands where it can be read, else as feedparser read it (UTC)."""
    for name in _DATES:
        # `in` and dict.__getitem__: FeedParserDict warns when it answers "updated" with "published"
        given = dict.__getitem__(entry, name) if name in entry else None
        if given:
            parsed = dict.get(entry, f"{name}_parsed")
            return iso_date(given) or (_utc(parsed) if parsed and len(given) <= MAX_DATE_CHARS else None) or str(given)
    return None


def _utc(parsed: Any) -> str | None:
    try:
        return datetime(*parsed[:6]).replace(tzinfo=UTC).isoformat()
    except (ValueError, TypeError):
        return None
