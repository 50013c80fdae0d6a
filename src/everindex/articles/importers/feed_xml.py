"""The reader of RSS, Atom and RDF feeds.

feedparser reads the variety of real feeds. Before it gets a byte, this module limits the cost of a hostile feed: entity
declarations and deep nesting are refused, and feedparser's tolerant parser, whose time grows faster than its input,
gets small pieces only. Broken XML is repaired first where possible (feed_repair.py).
"""

from __future__ import annotations

import io
import re
from typing import Any, Final
from xml.parsers import expat

import feedparser

from everindex.articles.importers.feed_entries import Entry, Feed
from everindex.articles.importers.feed_repair import Pieces, cut_into_entries, repaired
from everindex.articles.importers.html_text import html_text, looks_like_html
from everindex.articles.importers.opening import OpenSource, unreadable
from everindex.articles.model import RowProblem
from everindex.errors import SourceUnreadable

#: XML that is not well-formed is read by feedparser's tolerant parser up to this size; the worst of 17 hostile inputs
#: of 250 kB took 0.8 s. Larger feeds are read entry by entry, with broken entries up to the second size.
MAX_BROKEN_BYTES: Final = 256_000
MAX_BROKEN_ENTRY_BYTES: Final = 32_000
#: The total size of broken entries of a large feed that is tried: the same cost as for a small feed.
MAX_BROKEN_ENTRIES_BYTES: Final = MAX_BROKEN_BYTES
#: Feeds nest 4 to 6 elements deep, XHTML in them a few dozen.
MAX_DEPTH: Final = 200
#: The limit of the text before the root element, for which feedparser's patterns are quadratic.
_MAX_PROLOG_CHARS: Final = 16_000
_CUT_OFF: Final = {
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
}
_ROOT = re.compile(r"<(\w[\w.:-]*)")
_DATES: Final = ("published", "updated", "created")


def read_xml_feed(opened: OpenSource, text: str, *, is_damaged: bool) -> Feed:
    """The feed in `text`; entries with U+FFFD are refused when bytes were lost (`is_damaged`)."""
    _check_prolog(opened, text[:_MAX_PROLOG_CHARS])
    error, is_cut = _check_xml(opened, text)
    lost: list[RowProblem] = []
    if error is not None or "<!DOCTYPE" in text[:_MAX_PROLOG_CHARS]:  # with a DTD expat passes over HTML's entities
        text, dropped = repaired(text)
        if dropped:
            lost.append(RowProblem(source=opened.name, line=1, reason=_dropped(dropped), is_note=True))
        error, is_cut = _check_xml(opened, text)
    if error is None or len(text) <= MAX_BROKEN_BYTES:
        found = _parsed(opened, text)
        entries = [_entry(number, entry, is_damaged=is_damaged) for number, entry in enumerate(found.entries, start=1)]
        if is_cut and entries:
            entries[-1] = Entry(number=len(entries), problem="the feed ends within this entry or right after it")
        if error is not None and opened.damage is None:
            reason = f"the XML is broken, so entries may be missing or cut: {error}"
            lost.append(opened.problem(len(entries) + 1, reason))
    else:
        found, entries = _entry_by_entry(opened, cut_into_entries(text), error, is_damaged=is_damaged)
    if not entries and not found.version:
        raise _no_feed(opened, f"it is XML, but neither RSS nor Atom{f' ({error})' if error else ''}.")
    feed = found.feed
    links = [
        feed.get("link"),
        *(one.get("href") for one in feed.get("links") or [] if one.get("rel") == "self"),
        feed.get("id"),
    ]
    return Feed(
        title=feed.get("title"),
        links=tuple(link for link in links if link),
        home=feed.get("link"),
        language=feed.get("language"),
        entries=entries,
        problems=tuple(lost),
    )


def _dropped(count: int) -> str:
    return f"removed {count} control character{'s' if count > 1 else ''}, which XML does not allow"


def _entry_by_entry(
    opened: OpenSource, pieces: Pieces | None, error: str, *, is_damaged: bool
) -> tuple[Any, list[Entry]]:
    """Reads a large broken feed: the well-formed entries as one feed, each other entry on its own."""
    if pieces is None:
        raise _no_feed(opened, f"its XML is broken ({error}), and no separate entries can be found in it.")
    errors = [piece.error for piece in pieces.entries]
    whole = pieces.feed_of(piece for piece in pieces.entries if piece.error is None)
    still = _check_xml(opened, whole)[0]
    if still is not None:
        raise _no_feed(opened, f"its XML is broken ({still}).")
    found = _parsed(opened, whole)
    good = iter(found.entries)
    entries: list[Entry] = []
    tried = 0
    for number, (piece, why) in enumerate(zip(pieces.entries, errors, strict=True), start=1):
        entry = next(good, None) if why is None else None
        is_small = len(piece.text) <= MAX_BROKEN_ENTRY_BYTES and tried + len(piece.text) <= MAX_BROKEN_ENTRIES_BYTES
        if why is not None and not piece.is_cut and is_small:
            tried += len(piece.text)
            entry = next(iter(_parsed(opened, pieces.feed_of([piece])).entries), None)
        if piece.is_cut:
            entries.append(Entry(number=number, problem="the feed ends within this entry or right after it"))
        elif entry is None:
            entries.append(Entry(number=number, problem=f"its XML is broken: {why}"))
        else:
            entries.append(_entry(number, entry, is_damaged=is_damaged))
    return found, entries


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
            why="it is OPML, a list of feed addresses, and an import fetches nothing from the network.",
            next_step="download the feeds that it lists and import those files.",
        )


def _entities(opened: OpenSource) -> SourceUnreadable:
    return _no_feed(opened, "it declares XML entities, which no feed needs and which can expand without bound.")


def _check_xml(opened: OpenSource, text: str) -> tuple[str | None, bool]:
    """The place where the XML is broken (None when it is well-formed), and whether it is cut off.

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
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as exc:
        return f"{expat.errors.messages[exc.code]}, line {exc.lineno}", exc.code in _CUT_OFF
    return None, False


def _parsed(opened: OpenSource, text: str) -> Any:
    try:
        # A stream, because feedparser takes bare bytes for the name of a file to open. Sanitising HTML and resolving
        # links in it are off, since the HTML becomes plain text.
        return feedparser.parse(
            io.BytesIO(text.encode("utf-8", "replace")), sanitize_html=False, resolve_relative_uris=False
        )
    except Exception as exc:  # feedparser lets through whatever its parts raise on hostile input, from many modules
        raise _no_feed(opened, f"feedparser cannot read it ({type(exc).__name__}).") from exc


def _entry(number: int, entry: Any, *, is_damaged: bool) -> Entry:
    content = [_shown(part) for part in entry.get("content") or []]
    source = entry.get("source") or {}
    dates = _dates(entry)
    enclosures = [one["href"] for one in entry.get("enclosures") or [] if one.get("href")]
    found = Entry(
        number=number,
        link=entry.get("link") or (None if entry.get("id") else next(iter(enclosures), None)),
        id=entry.get("id"),
        title=" ".join(_shown(entry.get("title_detail")).split()),
        summary=_shown(entry.get("summary_detail")) or ("" if entry.get("title") else "\n\n".join(content)),
        raw_text="\n\n".join(content),
        news_source=source.get("title"),
        dates=tuple(dates.values()),
        revised=dates.get("updated"),
        tags=tuple(label for tag in entry.get("tags") or [] if (label := tag.get("label") or tag.get("term"))),
    )
    if is_damaged and "\ufffd" in str(found):
        return Entry(number=number, problem="contains bytes that are invalid in the encoding of the feed")
    return found


def _dates(entry: Any) -> dict[str, str]:
    """The dates of the entry by name, unparsed."""
    # `in` and dict.__getitem__: FeedParserDict warns when it answers "updated" with "published"
    given = {name: dict.__getitem__(entry, name) for name in _DATES if name in entry}
    return {name: str(text) for name, text in given.items() if text}


def _shown(detail: Any) -> str:
    """The text of one of feedparser's details, stripped of HTML."""
    value: str = (detail or {}).get("value") or ""
    is_html = (detail or {}).get("type") != "text/plain" or looks_like_html(value)
    return html_text(value) if is_html else value.strip()
