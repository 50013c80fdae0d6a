"""Cursors: the place where the next page of an answer begins, which is after the last article shown and not after a count.

A cursor names the last article's distance and uri, so that rows which come or go between two pages shift nothing. Where
that place alone does not tell what was shown, it holds a digest of each article in question: through the index, which of
several articles equally far; in a hybrid search, whose scores change with every row, all of them.

It holds a digest of what was asked too: continued with another question it would skip and repeat without a word, so it is
refused. It is no secret and grants nothing; whoever writes one by hand gets a page of the same search.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from everindex.articles.model import MAX_K, MAX_URI_BYTES, Hit
from everindex.errors import CursorRefused

#: The first byte. Another layout, or another meaning of a field, takes the next number.
VERSION = 2
DIGEST_BYTES = 8
#: Of an article. Of a million pairs of walks over MOST_SEEN articles each, one misses an article for another's digest.
SEEN_BYTES = 5
#: So many articles are remembered one by one; the text of a cursor then still fits into the 8 kB that proxies allow an address.
MOST_SEEN = 1000

#: So many articles of a search by ranks are shown on all its pages together.
MAX_RANKED = min(MOST_SEEN, MAX_K)

#: version · articles shown so far · what orders the answer, exact · digest of the question · how many are seen; then their
#: digests, the uri and a CRC-32.
_HEAD = struct.Struct(f">BId{DIGEST_BYTES}sH")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">Q")
_MOST_SHOWN = 2**32 - 1
#: What the longest cursor has as text; nothing longer is decoded.
_MOST_CHARACTERS = 4 * math.ceil((_HEAD.size + MOST_SEEN * SEEN_BYTES + MAX_URI_BYTES + _CRC.size) / 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last article of a page."""

    distance: float
    """What orders the answer, smallest first: the cosine distance; in a search by keyword the score, negated."""

    uri: str
    shown: int
    """How many articles the pages up to here have shown: how deep the next page lies, and no more than that."""

    seen: frozenset[bytes] = frozenset()
    """`seen_digest` of the articles that were shown although their place is not before this one's; at most MOST_SEEN."""


#: Of what was searched for; a vector as (dim,) float32.
Part = str | bytes | float | np.ndarray | None


def digest_of(parts: Iterable[Part]) -> bytes:
    """The digest of what was asked; the same parts in the same order give the same, on every machine."""
    content = b"".join(_encoded(part) for part in parts)
    digest = hashlib.sha256()  # processors have instructions for it: three times as fast as BLAKE2
    # Of 2,048 bytes and more hashlib lets other threads run meanwhile: under load, waiting for the turn takes far longer.
    for start in range(0, len(content), 2047):
        digest.update(content[start : start + 2047])
    return digest.digest()[:DIGEST_BYTES]


def _encoded(part: Part) -> bytes:
    """The part with its kind and length, so that no two questions have the same bytes."""
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
    with np.errstate(over="ignore"):  # whatever can be asked has a digest
        return array.astype("<f4")


def seen_digest(uri: str) -> bytes:
    """An article, as a cursor remembers it."""
    return hashlib.blake2s(uri.encode(), digest_size=SEEN_BYTES).digest()


def write_cursor(cursor: Cursor, *, asked: bytes) -> str:
    """The cursor as text for addresses and JSON: URL-safe, without padding. `asked` comes from `digest_of`."""
    seen = sorted(cursor.seen)
    head = _HEAD.pack(VERSION, min(cursor.shown, _MOST_SHOWN), cursor.distance, asked, len(seen))
    content = head + b"".join(seen) + cursor.uri.encode()
    return base64.urlsafe_b64encode(content + _CRC.pack(zlib.crc32(content))).rstrip(b"=").decode()


def read_cursor(text: str, *, asked: bytes) -> Cursor:
    """The cursor of `text`. Raises CursorRefused for what `write_cursor` did not write for this question."""
    content = _content(text.strip())
    cursor = None if content is None else _cursor(content)
    if content is None or cursor is None:
        raise CursorRefused(
            f"the cursor cannot be read: {text.strip()[:40]!r}.",
            why="it is not what an answer gave as next_cursor: cut off, changed, or of another version of everindex.",
            next_step="ask for the first page, without a cursor, and go on with its next_cursor.",
        )
    if _HEAD.unpack_from(content)[3] != asked:
        raise CursorRefused(
            "the cursor belongs to another search.",
            why="it continues the search that gave it: the same text or vector, model, filters, mode and min_similarity. "
            "Only k, ef_search and exact may change between pages.",
            next_step="ask for the first page of this search, without a cursor.",
        )
    return cursor


def _content(text: str) -> bytes | None:
    """The bytes before the checksum, if it is theirs."""
    if len(text) > _MOST_CHARACTERS:
        return None
    # In an address + means a space, so the alphabet has neither; padding is put back, also where it was left on.
    plain = text.rstrip("=")
    try:
        whole = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    content, checksum = whole[: -_CRC.size], whole[-_CRC.size :]
    is_whole = len(content) >= _HEAD.size and zlib.crc32(content) == int.from_bytes(checksum)
    return content if is_whole else None


def _cursor(content: bytes) -> Cursor | None:
    """The cursor, if it is one of this version that a search can be continued with."""
    version, shown, distance, _, count = _HEAD.unpack_from(content)
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
    return Cursor(distance=distance, uri=uri, shown=shown, seen=seen)


def after_nearest(hits: Sequence[Hit], *, before: Cursor | None, is_complete: bool) -> Cursor:
    """The cursor after `hits` (at least one, by distance and uri), which themselves came after `before`.

    `is_complete`: nothing was left out before the last of them, as in an exact search. An index gives any of several
    articles that are equally far, so of those it is remembered which were shown.
    """
    last = hits[-1]
    distance = _distance(last)
    is_same_distance = before is not None and before.distance == distance
    begun, seen = (before.uri, before.seen) if before is not None and is_same_distance else ("", frozenset())
    shown = _shown(before) + len(hits)
    if is_complete:
        return Cursor(distance=distance, uri=last.uri, shown=shown, seen=seen)
    seen |= {seen_digest(hit.uri) for hit in hits if hit.distance == distance}
    if len(seen) > MOST_SEEN:
        # The rest of more than MOST_SEEN equal vectors is passed over: the index itself hardly tells them apart.
        return Cursor(distance=math.nextafter(distance, math.inf), uri="", shown=shown)
    return Cursor(distance=distance, uri=begun, shown=shown, seen=seen)


def after_ranked(hits: Sequence[Hit], *, before: Cursor | None) -> Cursor | None:
    """The cursor after `hits` of a search by ranks, where every new row changes the scores: all that were shown are
    remembered. None after MAX_RANKED of them."""
    seen = (frozenset() if before is None else before.seen) | {seen_digest(hit.uri) for hit in hits}
    if len(seen) >= MAX_RANKED:
        return None
    return Cursor(distance=0.0, uri="", shown=_shown(before) + len(hits), seen=seen)


def not_seen(hits: Sequence[Hit], before: Cursor | None) -> list[Hit]:
    """The hits that no page up to `before` has shown."""
    if before is None or not before.seen:
        return list(hits)
    return [hit for hit in hits if seen_digest(hit.uri) not in before.seen]


def _shown(before: Cursor | None) -> int:
    return 0 if before is None else before.shown


def _distance(hit: Hit) -> float:
    assert hit.distance is not None  # what a search by meaning found has one
    return hit.distance
