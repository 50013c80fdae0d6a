"""Where does the next page of an answer begin? After the last article shown, by its place in the order and not by a count.

A cursor names the last article's distance and uri, so that rows which come or go between two pages shift nothing. It holds
a digest of what was asked: continued with another question it would skip and repeat without a word, so it is refused. It
is no secret and grants nothing; whoever writes one by hand gets a page of the same search.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from everindex.articles.model import MAX_URI_BYTES
from everindex.errors import QueryInvalid

#: The first byte. Another layout, or another meaning of a field, takes the next number.
VERSION = 1
DIGEST_BYTES = 8

#: version · articles shown so far · what orders the answer, exact · digest of the question; then the uri and a CRC-32.
_HEAD = struct.Struct(f">BId{DIGEST_BYTES}s")
_CRC = struct.Struct(">I")
_MOST_SHOWN = 2**32 - 1
#: What a cursor of the longest uri has as text; nothing longer is decoded.
_MOST_CHARACTERS = 4 * math.ceil((_HEAD.size + MAX_URI_BYTES + _CRC.size) / 3)


class CursorRefused(QueryInvalid):
    """A cursor that this search did not give: damaged, of another version, or of another question."""

    slug = "cursor-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last article of a page."""

    distance: float
    """What orders the answer, smallest first: the cosine distance; in a search by keyword the score, negated."""

    uri: str
    shown: int
    """How many articles the pages up to here have shown: how deep the next page lies, and no more than that."""


def digest_of(parts: Iterable[str | bytes | float | None]) -> bytes:
    """The digest of what was asked; the same parts in the same order give the same, on every machine."""
    digest = hashlib.blake2s(digest_size=DIGEST_BYTES)
    for part in parts:
        match part:
            case None:
                kind, content = b"-", b""
            case bytes():
                kind, content = b"b", part
            case str():
                kind, content = b"s", part.encode("utf-8", "surrogatepass")
            case _:
                kind, content = b"f", struct.pack(">d", part)
        digest.update(kind + struct.pack(">Q", len(content)))
        digest.update(content)
    return digest.digest()


def write_cursor(cursor: Cursor, *, asked: bytes) -> str:
    """The cursor as text for addresses and JSON: URL-safe, without padding. `asked` comes from `digest_of`."""
    head = _HEAD.pack(VERSION, min(cursor.shown, _MOST_SHOWN), cursor.distance, asked)
    content = head + cursor.uri.encode()
    return base64.urlsafe_b64encode(content + _CRC.pack(zlib.crc32(content))).rstrip(b"=").decode()


def read_cursor(text: str, *, asked: bytes) -> Cursor:
    """The cursor of `text`. Raises CursorRefused for what `write_cursor` did not write for this question."""
    content = _content(text.strip())
    if content is None:
        raise CursorRefused(
            f"the cursor cannot be read: {text.strip()[:40]!r}.",
            why="it is not what an answer gave as next_cursor: cut off, changed, or of another version of everindex.",
            next_step="ask for the first page, without a cursor, and go on with its next_cursor.",
        )
    _, shown, distance, question = _HEAD.unpack_from(content)
    if question != asked:
        raise CursorRefused(
            "the cursor belongs to another search.",
            why="it continues the search that gave it: the same text or vector, model, filters, mode and min_similarity. "
            "Only k, ef_search and exact may change between pages.",
            next_step="ask for the first page of this search, without a cursor.",
        )
    return Cursor(distance=distance, uri=content[_HEAD.size :].decode(), shown=shown)


def _content(text: str) -> bytes | None:
    """The bytes before the checksum, if they are a cursor of this version."""
    if len(text) > _MOST_CHARACTERS:
        return None
    try:
        # In an address + means a space, so the alphabet has neither; padding is put back where it was left on too.
        plain = text.rstrip("=")
        whole = base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
        content, checksum = whole[: -_CRC.size], whole[-_CRC.size :]
        if len(content) < _HEAD.size or zlib.crc32(content) != _CRC.unpack(checksum)[0]:
            return None
        version, _, distance, _ = _HEAD.unpack_from(content)
        uri = content[_HEAD.size :].decode()
    except (binascii.Error, ValueError, struct.error):
        return None
    return content if version == VERSION and math.isfinite(distance) and "\0" not in uri else None
