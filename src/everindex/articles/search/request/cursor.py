"""Cursors: the position where the next page of an answer begins, given by the last article shown and not by a count.

A cursor names the last article's distance and uri, so that rows added or deleted between two pages shift nothing. Where
that position alone does not determine which articles were shown, the cursor contains a digest of each one in question:
in an index search, of those equally distant; in a hybrid search, whose scores change with every row, of all.

It also contains a digest of the search: with another search it would silently skip and repeat articles, so it is
refused. It is not secret and grants nothing; a hand-written one gets a page of the same search.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from everindex.articles.model import MAX_K, MAX_URI_BYTES
from everindex.articles.shape.hit import Hit
from everindex.errors import CursorRefused

#: The first byte. A new layout, or a new meaning of a field, takes the next number.
VERSION = 3
DIGEST_BYTES = 8
#: Digest size of an article. In one of a million pairs of walks over MOST_SEEN articles each, an article is missed
#: because of a digest collision.
SEEN_BYTES = 5
#: The number of articles remembered one by one; the cursor then still fits into the 8 kB that proxies allow for a URL.
MOST_SEEN = 1000

#: The number of articles that a search by rank shows on all its pages together.
MAX_RANKED = min(MOST_SEEN, MAX_K)
ENDS_HERE = f"this search shows at most its first {MAX_RANKED:,} articles: narrow it with a filter or another word"

#: version · articles shown so far · of them, those under another · the exact value that orders the answer · digest of the
#: search · number of digests; then these digests, the uri and a CRC-32.
_HEAD = struct.Struct(f">BIId{DIGEST_BYTES}sH")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")
_MOST_SHOWN = 2**32 - 1
#: The length of the longest cursor as text; nothing longer is decoded.
_MOST_CHARACTERS = 4 * math.ceil((_HEAD.size + MOST_SEEN * SEEN_BYTES + MAX_URI_BYTES + _CRC.size) / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last article of a page."""

    distance: float
    """The value that orders the answer, smallest first: the cosine distance, or in keyword search the negated score."""

    uri: str
    shown: int
    """The number of articles shown so far, used only as the depth of the next page."""

    hidden: int = 0
    """How many of the articles shown stood under another one, as its near-duplicates."""

    seen: frozenset[bytes] = frozenset()
    """`seen_digest` of the articles that were shown although their position is not before this one; at most
    MOST_SEEN."""


#: A part of what was searched for; a vector is (dim,) float32.
Part = str | bytes | float | np.ndarray | None


def digest_of(parts: Iterable[Part]) -> bytes:
    """The digest of a search; the same parts in the same order give the same digest on every machine."""
    content = b"".join(_encoded(part) for part in parts)
    digest = hashlib.sha256()  # has processor instructions: three times as fast as BLAKE2
    # For 2,048 bytes and more hashlib releases the GIL: under load, getting it back takes far longer than hashing.
    for start in range(0, len(content), 2047):
        digest.update(content[start : start + 2047])
    return digest.digest()[:DIGEST_BYTES]


def _encoded(part: Part) -> bytes:
    """The part with its kind and length, so that no two searches have the same bytes."""
    match part:
        case None:
            return b"-"
        case np.ndarray():
            kind, content = b"v", _float32(part).tobytes()
        case str():
            kind, content = b"s", part.encode("utf-8", "surrogatepass")
        case bytes():
            kind, content = b"b", part
        case _:
            kind, content = b"f", struct.pack(">d", part)
    return kind + _LENGTH.pack(len(content)) + content


def _float32(array: np.ndarray) -> np.ndarray:
    if array.dtype == "<f4":
        return array
    with np.errstate(over="ignore"):  # every possible search has a digest
        return array.astype("<f4")


def seen_digest(key: object) -> bytes:
    """The digest by which a cursor remembers a row."""
    return hashlib.blake2s(str(key).encode(), digest_size=SEEN_BYTES).digest()


def write_cursor(cursor: Cursor, *, search_digest: bytes) -> str:
    """The cursor as text for addresses and JSON: URL-safe, without padding. `search_digest` comes from `digest_of`."""
    seen = sorted(cursor.seen)
    shown, hidden = min(cursor.shown, _MOST_SHOWN), min(cursor.hidden, _MOST_SHOWN)
    head = _HEAD.pack(VERSION, shown, hidden, cursor.distance, search_digest, len(seen))
    return as_text(head + b"".join(seen) + cursor.uri.encode())


def as_text(content: bytes) -> str:
    """Bytes as text for addresses: base64 with a checksum, URL-safe, without padding."""
    return base64.urlsafe_b64encode(content + _CRC.pack(zlib.crc32(content))).rstrip(b"=").decode()


def read_cursor(text: str, *, search_digest: bytes) -> Cursor:
    """The cursor of `text`. Raises CursorRefused for what `write_cursor` did not write for this search."""
    content = bytes_of(text.strip())
    cursor = None if content is None else _cursor(content)
    if content is None or cursor is None:
        raise unreadable_cursor(text)
    if _HEAD.unpack_from(content)[4] != search_digest:
        raise cursor_of_another_search()
    return cursor


def peek(text: str) -> Cursor | None:
    """The cursor of `text`, of whichever search; None for what `write_cursor` did not write."""
    content = bytes_of(text.strip())
    return None if content is None else _cursor(content)


def unreadable_cursor(text: str) -> CursorRefused:
    return CursorRefused(
        f"the cursor cannot be read: {text.strip()[:40]!r}.",
        why="it is not the next_cursor of an answer: it was cut off or changed, or is from another version of everindex.",
        next_step="request the first page, without a cursor, and continue with its next_cursor.",
    )


def cursor_of_another_search() -> CursorRefused:
    return CursorRefused(
        "the cursor belongs to another search.",
        why="it only continues its own search: the same text or vector, model, filters, mode, order and min_similarity. "
        "Only k, ef_search and exact may change between pages.",
        next_step="request the first page of this search, without a cursor.",
    )


def bytes_of(text: str) -> bytes | None:
    """What `as_text` made text of; None if the checksum does not match."""
    if len(text) > _MOST_CHARACTERS:
        return None
    # In a URL + means a space, so the alphabet has - and _ instead of + and /. Padding is restored, even where it was
    # not removed.
    plain = text.rstrip("=")
    try:
        whole = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    content, checksum = whole[: -_CRC.size], whole[-_CRC.size :]
    return content if content and zlib.crc32(content) == int.from_bytes(checksum) else None


def _cursor(content: bytes) -> Cursor | None:
    """The cursor, if it is of this version and usable."""
    if len(content) < _HEAD.size:
        return None
    version, shown, hidden, distance, _, count = _HEAD.unpack_from(content)
    begin = _HEAD.size + count * SEEN_BYTES
    if version != VERSION or not math.isfinite(distance) or count > MOST_SEEN or len(content) < begin:
        return None
    try:
        uri = content[begin:].decode()
    except ValueError:
        return None
    if "\0" in uri:
        return None
    seen = frozenset(content[at : at + SEEN_BYTES] for at in range(_HEAD.size, begin, SEEN_BYTES))
    return Cursor(distance=distance, uri=uri, shown=shown, hidden=hidden, seen=seen)


def after_nearest(hits: Sequence[Hit], *, before: Cursor | None, is_complete: bool) -> Cursor:
    """The cursor after `hits` (at least one, by distance and uri), which themselves came after `before`.

    `is_complete`: nothing was left out before the last of them, as in an exact search. An index returns equally distant
    articles in any order, so the cursor remembers which of them were shown.
    """
    last = hits[-1]
    distance = _distance(last)
    is_same_distance = before is not None and before.distance == distance
    begun, seen = (before.uri, before.seen) if before is not None and is_same_distance else ("", frozenset())
    shown = _shown(before) + len(hits)
    if is_complete:
        return Cursor(distance=distance, uri=str(last.key), shown=shown, seen=seen)
    seen |= {seen_digest(hit.key) for hit in hits if hit.distance == distance}
    if len(seen) > MOST_SEEN:
        # With more than MOST_SEEN equal vectors the rest is skipped: the index itself hardly distinguishes them.
        return Cursor(distance=math.nextafter(distance, math.inf), uri="", shown=shown)
    return Cursor(distance=distance, uri=begun, shown=shown, seen=seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """How a page has shown its articles: each near-duplicate under the first of its group."""

    later: Sequence[Hit]
    """Those of them whose place comes after the end of the page."""

    groups: int


def with_groups(cursor: Cursor, grouped: Grouped | None, *, count: int, before: Cursor | None) -> Cursor:
    """The cursor after a page of the first `count` articles and, where near-duplicates were grouped, of those that came
    later. It remembers these, and those that `before` remembers; as far as it can, the newer ones first."""
    hidden = 0 if before is None else before.hidden
    if grouped is None:
        return replace(cursor, hidden=hidden) if hidden else cursor
    shown = count + len(grouped.later)
    cursor = replace(cursor, shown=_shown(before) + shown, hidden=hidden + shown - grouped.groups)
    added = frozenset(seen_digest(hit.key) for hit in grouped.later)
    remembered = frozenset() if before is None else before.seen
    for seen in (cursor.seen | added | remembered, cursor.seen | added):
        if len(seen) <= MOST_SEEN:
            return replace(cursor, seen=seen)
    return cursor


def after_ranked(hits: Sequence[Hit], *, before: Cursor | None) -> Cursor | None:
    """The cursor after `hits` of a search by rank. Every new row changes the scores, so it remembers all rows
    shown. None after MAX_RANKED of them."""
    seen = (frozenset() if before is None else before.seen) | {seen_digest(hit.key) for hit in hits}
    if len(seen) >= MAX_RANKED:
        return None
    return Cursor(distance=0.0, uri="", shown=_shown(before) + len(hits), seen=seen)


def not_seen(hits: Sequence[Hit], before: Cursor | None) -> list[Hit]:
    """The hits that no page up to `before` has shown."""
    if before is None or not before.seen:
        return list(hits)
    return [hit for hit in hits if seen_digest(hit.key) not in before.seen]


def _shown(before: Cursor | None) -> int:
    return 0 if before is None else before.shown


def _distance(hit: Hit) -> float:
    assert hit.distance is not None  # every hit of a semantic search has one
    return hit.distance
