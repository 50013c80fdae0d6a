"""Pages by number: which hits of an answer a page shows, and the page before it.

A page goes on after a place, which leads forwards only (docs/decisions/0013). The page before is found from the start: its
cursor holds how many hits come before it, so it shows what is there now. That takes a search as deep as the page, and is
offered for the first MAX_K articles of an answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.request.cursor import (
    DIGEST_BYTES,
    as_text,
    bytes_of,
    cursor_of_another_search,
    peek,
    unreadable_cursor,
)
from everindex.articles.search.request.search_request import SearchRequest

#: No version of a cursor by place.
_MARK = 0xC1
#: mark · hits before the page · digest of the search
_COUNT = struct.Struct(f">BI{DIGEST_BYTES}s")


def is_numbered(cursor: str) -> bool:
    """Whether a cursor holds a number of hits, and not a place."""
    content = bytes_of(cursor.strip())
    return content is not None and len(content) == _COUNT.size and content[0] == _MARK


def numbered_page(request: SearchRequest, search: Callable[[SearchRequest], Answer]) -> Answer:
    """The answer to a request whose cursor holds a number of hits. Raises CursorRefused and what `search` raises."""
    content = bytes_of((request.after or "").strip()) or b""
    _, before, digest = _COUNT.unpack(content)
    if digest != request.digest:
        raise cursor_of_another_search()
    if before >= MAX_K:
        raise unreadable_cursor(request.after or "")
    found = search(replace(request, after=None, k=min(before + request.k, MAX_K), facets=()))
    rows = sum(1 + len(hit.duplicates) for hit in found.hits[:before])
    return with_position(replace(found, hits=found.hits[before:], k=request.k), request, before=before, rows=rows)


def placed_page(answer: Answer, request: SearchRequest) -> Answer:
    """The answer to a request for the page after a place, with its position."""
    cursor = peek(request.after or "")
    if cursor is None:
        return answer
    return with_position(answer, request, before=cursor.shown - cursor.hidden, rows=cursor.shown)


def with_position(answer: Answer, request: SearchRequest, *, before: int, rows: int) -> Answer:
    """The answer that says how many articles come before it (`rows`), and writes the cursor of the page before. `before` is how
    many hits they are, each with its near-duplicates."""
    if before <= 0:
        return answer
    start = before - request.k
    back = None if rows > MAX_K else lambda: as_text(_COUNT.pack(_MARK, start, request.digest)) if start > 0 else ""
    return replace(answer, shown_before=rows, back=back)
