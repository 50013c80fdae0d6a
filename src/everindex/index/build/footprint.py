"""The footprint of an HNSW index: bytes on disk, and bytes of memory while it is built, by type, width, m and rows.

On disk by pgvector's page layout, to the page where each page takes the same number of rows whatever their levels, and in
expectation where the random levels of the graph decide. In memory by a measured formula. Both are of a fresh index over
vectors that are all different: up to ten equal ones share an element, deleted ones leave room that vacuum frees for others,
and rows that are inserted later fill pages a little better. Pages have 8 KiB, PostgreSQL's default. Pure.

Source: pgvector 0.5.0 to 0.8.6, src/hnsw.h (HnswElementTupleData, HnswNeighborTupleData, HNSW_MAX_SIZE) and
src/hnswbuild.c (CreateGraphPages).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

PAGE_BYTES = 8192
#: What a page has for tuples and their line pointers: all but PageHeaderData and pgvector's HnswPageOpaqueData.
USABLE_BYTES = PAGE_BYTES - 24 - 8
LINE_POINTER_BYTES = 4
#: HnswElementTupleData up to its value: 4 bytes of state, 10 heap tids, the tid of its neighbours, padding.
ELEMENT_HEADER_BYTES = 72
#: HnswNeighborTupleData up to its tids.
NEIGHBOURS_HEADER_BYTES = 4
TID_BYTES = 6
#: Levels that fewer rows than this share reach change no page that could be seen.
RAREST_LEVEL = 1e-4
#: pgvector's graph in memory, beside the value: measured on five shapes within 1 % (value bytes + 32 × m + 205).
MEMORY_BYTES_PER_ROW = 205
MEMORY_BYTES_PER_ROW_PER_M = 32


def value_bytes(key_type: str, dimensions: int) -> int:
    """Bytes of one value of a pgvector type: a header, and float32, float16 or bits.

    For sparsevec `dimensions` are those that are not zero.
    """
    match key_type:
        case "vector":
            return 8 + 4 * dimensions
        case "halfvec":
            return 8 + 2 * dimensions
        case "bit":
            return 8 + -(-dimensions // 8)
        case "sparsevec":
            return 16 + 8 * dimensions
    raise ValueError(f"{key_type} is no type of pgvector")


def graph_bytes(*, rows: int, dimensions: int, m: int, key_type: str = "vector") -> int:
    """Bytes of an HNSW graph over `rows` values of `dimensions` while it is built in memory."""
    return rows * (value_bytes(key_type, dimensions) + MEMORY_BYTES_PER_ROW_PER_M * m + MEMORY_BYTES_PER_ROW)


def index_bytes(*, rows: int, dimensions: int, m: int, key_type: str = "vector") -> int:
    """Bytes on disk of a fresh HNSW index over `rows` values: a page of its own data, and those of its rows."""
    row_pages = rows * _pages_per_row(value_bytes(key_type, dimensions), m)
    return PAGE_BYTES * (1 + max(1, math.ceil(row_pages - 0.01)))


def row_bytes(*, dimensions: int, m: int, key_type: str = "vector") -> float:
    """Bytes on disk of one row of a fresh and large HNSW index."""
    return PAGE_BYTES * _pages_per_row(value_bytes(key_type, dimensions), m)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is expected from a page with some free bytes until a row opens another page."""

    rows: float
    """Rows that are added, the opening one included."""

    opened: float
    """Pages that the opening row opens: 1, or 2 where its tuples do not fit on one."""

    opening: tuple[float, ...]
    """The probability of each level of the opening row."""


@functools.lru_cache(maxsize=1024)
def _pages_per_row(value_size: int, m: int) -> float:
    """Pages per row in the long run.

    A row is an element tuple and a tuple of its neighbours: 2 × m of them on the lowest level and m on each further one, where
    one row in m reaches the next. Both go on the page that is being filled where they fit, else on a new one; where they never
    fit on one page together, on two. A tuple never spans pages. So the level of the row that opens a page decides what is
    free after it, and the shares of the levels among the opening rows converge.
    """
    levels = range(1 + math.ceil(-math.log(RAREST_LEVEL) / math.log(m)))
    share = [1 / m**level * (1 - 1 / m) for level in levels[:-1]]
    share.append(1 - sum(share))
    element = _tuple_bytes(ELEMENT_HEADER_BYTES + value_size)
    neighbours = [_tuple_bytes(NEIGHBOURS_HEADER_BYTES + (level + 2) * m * TID_BYTES) for level in levels]
    known: dict[int, _Ahead] = {}

    def after_opening(level: int) -> int:
        both = element + neighbours[level]
        return USABLE_BYTES - (both if both <= USABLE_BYTES else neighbours[level])

    def ahead(free: int) -> _Ahead:
        if free in known:
            return known[free]
        rows, opened, opening = 1.0, 0.0, [0.0] * len(levels)
        for level, probability in enumerate(share):
            both = element + neighbours[level]
            if both <= free:
                then = ahead(free - both)
                rows += probability * then.rows
                opened += probability * then.opened
                opening = [have + probability * more for have, more in zip(opening, then.opening, strict=True)]
            else:
                # An element whose neighbours go to a page of their own may still stand on this one.
                opened += probability * (2 if both > USABLE_BYTES and element > free else 1)
                opening[level] += probability
        known[free] = _Ahead(rows, opened, tuple(opening))
        return known[free]

    openings = list(share)
    for _ in range(50):
        pages = [ahead(after_opening(level)).opening for level in levels]
        openings = [sum(part * page[level] for part, page in zip(openings, pages, strict=True)) for level in levels]
    found = [ahead(after_opening(level)) for level in levels]
    opened: float = sum(part * page.opened for part, page in zip(openings, found, strict=True))
    rows: float = sum(part * page.rows for part, page in zip(openings, found, strict=True))
    return opened / rows


def _tuple_bytes(size: int) -> int:
    """Bytes of a tuple on a page: aligned, with its line pointer."""
    return -(-size // 8) * 8 + LINE_POINTER_BYTES
