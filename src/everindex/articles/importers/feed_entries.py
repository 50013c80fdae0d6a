"""The conversion of feed entries to articles: the uri and date of each, and the newest of several revisions.

The readers of RSS, Atom and JSON Feed produce one common form (`Feed`, `Entry`); this module interprets it
(docs/decisions/0020). An entry that cannot have its own uri is refused with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from everindex.articles.importers.dates import DateContext, order_shown, read_date
from everindex.articles.importers.opening import OpenSource
from everindex.articles.importers.row import read_row
from everindex.articles.model import MAX_URI_BYTES, Article, EntryIdentity, RowProblem

# Does not match a host with a port: a.example:8080/1
_ABSOLUTE = re.compile(r"(?!(?:[^:/?#]*\.[^:/?#]*|localhost):\d)[a-zA-Z][a-zA-Z0-9+.-]*:\S")
#: A globally unique id that is not an address: a UUID, a hash.
_UNIQUE_ID = re.compile(r"(?=[^0-9]*[0-9])[0-9A-Za-z_{}-]{20,}")
_NO_BASE: Final = (
    "{what} {value!r} is relative, but neither the feed nor --base gives the address to resolve it against"
)
#: Countries that use IST, by the language of a feed or the last label of its host.
_IST_MINUTES: Final = {"in": 330, "hi": 330, "il": 120, "he": 120, "iw": 120, "ie": 60, "ga": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The contents of an entry as text without HTML, not yet validated."""

    number: int
    link: str | None = None
    id: str | None = None
    title: str | None = None
    summary: str | None = None
    raw_text: str | None = None
    news_source: str | None = None
    dates: tuple[str, ...] = ()
    """Its dates of publication, change and creation, in this order: the first readable one is its date."""

    revised: str | None = None
    """The date of its last change; the newest of several revisions counts."""

    tags: tuple[str, ...] = ()
    problem: str | None = None
    """Why it cannot be imported, found while reading it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A feed: its addresses and its entries."""

    title: str | None = None
    links: tuple[str, ...] = ()
    """Its page, its own address and its id: the first that is an address is the base of relative links."""

    home: str | None = None
    """The address of its page, which is not the link of any one entry."""

    language: str | None = None
    entries: Sequence[Entry] = ()
    problems: tuple[RowProblem, ...] = ()
    """Parts of the source that gave no entry."""


@dataclass(slots=True)
class _Candidate:
    entry: Entry
    uri: str | None = None
    problem: str | None = None
    identity: EntryIdentity | None = None
    newer: int | None = field(default=None)


def read_entries(
    opened: OpenSource, feed: Feed, *, defaults: Mapping[str, str], base: str | None
) -> Iterator[Article | RowProblem]:
    """One item per entry, in their order, and notes about them."""
    addresses = _addresses(feed, base)
    candidates = [_candidate(entry, feed, addresses) for entry in feed.entries]
    _distinguish(candidates, _normal(_join(addresses, feed.home) or ""))
    _find_newest(candidates)
    context = _context(feed, addresses)
    for candidate in candidates:
        entry = candidate.entry
        if candidate.problem is not None:
            yield RowProblem(source=opened.name, line=entry.number, reason=candidate.problem, uri=candidate.uri)
        elif candidate.newer is not None:
            yield RowProblem(
                source=opened.name,
                line=entry.number,
                reason=f"entry {candidate.newer} has the same link and no other id, and is newer, so it is stored "
                f"instead",
                uri=candidate.uri,
                is_note=True,
            )
        else:
            notes: list[RowProblem] = []
            yield read_row(
                _row(candidate, context),
                source=opened.name,
                line=entry.number,
                defaults=defaults,
                context=context,
                notes=notes,
                entry=candidate.identity,
            )
            yield from notes
    yield from feed.problems


def _addresses(feed: Feed, base: str | None) -> list[str]:
    """The base addresses for relative links, best first."""
    given = [base] if base is not None else []
    absolute = [link for link in feed.links if is_address(link)]
    relative = [link for link in feed.links if not _ABSOLUTE.match(link)][:1] if given or absolute else []
    resolved = [urljoin((given + absolute)[0], link) for link in relative]
    return absolute + resolved + given


def is_address(text: str) -> bool:
    """Whether a text is an http or https address with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:  # what urllib.parse raises on near misses
        return False


def _join(addresses: Sequence[str], link: str | None) -> str | None:
    """The link as an absolute one; None without a base address. Raises ValueError for a malformed link."""
    if not link:
        return None
    link = "".join(link.split()) if any(space in link for space in "\n\r\t") else link.strip()
    if _ABSOLUTE.match(link):
        return link
    if not addresses:
        return f"https:{link}" if link.startswith("//") and is_address(f"https:{link}") else None
    try:
        return urljoin(addresses[0], link)
    except ValueError:
        return None


def _candidate(entry: Entry, feed: Feed, addresses: Sequence[str]) -> _Candidate:
    found = _Candidate(entry, problem=entry.problem)
    is_own_id = entry.link == entry.id and entry.id is not None and "/" not in entry.id  # a guid called a permalink
    link = None if is_own_id else _join(addresses, entry.link)
    id_uri = _id_uri(entry.id, link, addresses)
    if found.problem is None and entry.link and link is None and not is_own_id:
        found.problem = _NO_BASE.format(what="its link", value=entry.link[:80])
    elif found.problem is None and link is None and id_uri is None and entry.id:
        found.problem = _NO_BASE.format(what="its id", value=entry.id[:80])
    found.uri = link or id_uri
    if id_uri is not None and found.uri is not None and (link is None or _normal(id_uri) != _normal(link)):
        former = tuple(uri for uri in (entry.link, entry.id) if uri and uri not in (link, id_uri))
        found.identity = EntryIdentity(id_uri=id_uri, link=link, former=former)
    elif link is not None and entry.link != link and entry.link:
        found.identity = EntryIdentity(id_uri=link, former=(entry.link,))
    return found


def _id_uri(id: str | None, link: str | None, addresses: Sequence[str]) -> str | None:
    """The uri from an entry's id: the id itself where it is globally unique, otherwise the link with the id as fragment."""
    if not id:
        return None
    if is_address(id) or (link is None and (_ABSOLUTE.match(id) or _UNIQUE_ID.fullmatch(id))):
        return id
    base = link or (addresses[0] if addresses else None)
    if base is None:
        return None
    if link is not None and _normal(urljoin(base, id)) == _normal(link):
        return link
    uri = f"{base}{'&' if '#' in base else '#'}{quote(id, safe=':/?@!$()*+,;=.~')}"
    return uri if len(uri.encode("utf-8", "replace")) <= MAX_URI_BYTES else None


def _distinguish(candidates: Sequence[_Candidate], home: str) -> None:
    """Gives entries that share a link, and those that link to the feed's page, the uris from their ids."""
    several = Counter(
        link
        for link, _ in {
            (_normal(one.identity.link), one.identity.id_uri)
            for one in candidates
            if one.identity is not None and one.identity.link is not None
        }
    )
    twins = Counter(
        (one.identity.link, one.entry.title, one.entry.dates) for one in candidates if one.identity is not None
    )
    for one in candidates:
        if one.identity is None or one.identity.link is None:
            continue
        link = _normal(one.identity.link)
        if twins[one.identity.link, one.entry.title, one.entry.dates] > 1:
            one.identity = replace(one.identity, has_twin=True)
        if several[link] > 1 or link == home:
            one.uri = one.identity.id_uri


def _normal(uri: str) -> str:
    """A link in normal form, so that two spellings of one address are equal."""
    return re.sub(r"^https?://(?:www\.)?", "", uri).rstrip("/")


def _find_newest(candidates: Sequence[_Candidate]) -> None:
    """Keeps the newest of the entries with the same uri; without dates the first, since feeds list the newest first."""
    newest: dict[str, _Candidate] = {}
    for one in candidates:
        if one.problem is not None or one.uri is None or not (one.entry.title or one.entry.summary):
            continue
        known = newest.setdefault(one.uri, one)
        if known is not one:
            older, newer = (known, one) if _moment(one.entry) > _moment(known.entry) else (one, known)
            older.newer = newer.entry.number
            newest[one.uri] = newer


def _moment(entry: Entry) -> float:
    for text in (entry.revised, *entry.dates):
        found = read_date(text).text if text else None
        if found is not None:
            try:
                moment = datetime.fromisoformat(found)
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            except (ValueError, OverflowError):
                continue
    return float("-inf")


def _row(candidate: _Candidate, context: DateContext) -> dict[str, object]:
    entry = candidate.entry
    readable = (text for text in entry.dates if read_date(text, context).text is not None)
    return {
        "uri": candidate.uri,
        "title": entry.title,
        "summary": entry.summary,
        "raw_text": entry.raw_text,
        "news_source": entry.news_source,
        "publication_date": next(readable, next(iter(entry.dates), None)),
        "tags": list(entry.tags),
    }


def _context(feed: Feed, addresses: Sequence[str]) -> DateContext:
    shown = {order_shown(text) for entry in feed.entries for text in entry.dates} - {None}
    language = (feed.language or "").lower().replace("_", "-")
    order = shown.pop() if len(shown) == 1 else None
    if order is None and not shown and language:
        order = (
            False
            if language == "en-us"
            else True
            if re.match(r"en-(gb|au|nz|ie|in)|(fr|es|it|pt|de|nl)\b", language)
            else None
        )
    hosts = {(urlsplit(address).hostname or "").rpartition(".")[2] for address in addresses}
    hints = {_IST_MINUTES[hint] for hint in {*language.split("-"), *hosts} if hint in _IST_MINUTES}
    return DateContext(is_day_first=order, ist_minutes=hints.pop() if len(hints) == 1 else None)
