"""The footprint of an HNSW index: its bytes on disk, and its bytes of memory during the build, by type, width, m and rows.

The size on disk follows pgvector's page layout. It is exact to the page if every page takes the same number of rows whatever
their levels, and an expected value if it depends on the random levels of the graph. The size in memory comes from a measured
formula. Both apply to a fresh index on vectors that are all different: up to ten equal vectors share an element, deleted ones
leave space that VACUUM frees for others, and rows inserted later fill pages slightly better. Pages have 8 KiB, PostgreSQL's
default. Pure.

Source: pgvector 0.5.0 to 0.8.6, src/hnsw.h (HnswElementTupleData, HnswNeighborTupleData, HNSW_MAX_SIZE) and
src/hnswbuild.c (CreateGraphPages).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

PAGE_BYTES = 8192
#: Space of a page for tuples and their line pointers: all of it except PageHeaderData and pgvector's HnswPageOpaqueData.
USABLE_BYTES = PAGE_BYTES - 24 - 8
LINE_POINTER_BYTES = 4
#: HnswElementTupleData before its value: 4 bytes of state, 10 heap tids, the tid of its neighbours, padding.
ELEMENT_HEADER_BYTES = 72
#: HnswNeighborTupleData before its tids.
NEIGHBOURS_HEADER_BYTES = 4
TID_BYTES = 6
#: Levels that a smaller share of the rows reaches do not noticeably change the number of pages.
RAREST_LEVEL = 1e-4
#: pgvector's graph in memory, in addition to the value: measured on five shapes within 1 % (value bytes + 32 × m + 205).
MEMORY_BYTES_PER_ROW = 205
MEMORY_BYTES_PER_ROW_PER_M = 32


def value_bytes(key_type: str, dimensions: int) -> int:
    """Bytes of one value of a pgvector type: a header, and float32, float16 or bits.

    For sparsevec, `dimensions` counts the non-zero ones.
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
    raise ValueError(f"{key_type} is not a type of pgvector")


def graph_bytes(*, rows: int, dimensions: int, m: int, key_type: str = "vector") -> int:
    """Bytes of memory of an HNSW graph on `rows` values with `dimensions`, during the build."""
    return rows * (value_bytes(key_type, dimensions) + MEMORY_BYTES_PER_ROW_PER_M * m + MEMORY_BYTES_PER_ROW)


def index_bytes(*, rows: int, dimensions: int, m: int, key_type: str = "vector") -> int:
    """Bytes on disk of a fresh HNSW index on `rows` values: its meta page and the pages of its rows."""
    row_pages = rows * _pages_per_row(value_bytes(key_type, dimensions), m)
    return PAGE_BYTES * (1 + max(1, math.ceil(row_pages - 0.01)))


def row_bytes(*, dimensions: int, m: int, key_type: str = "vector") -> float:
    """Bytes on disk of one row of a fresh and large HNSW index."""
    return PAGE_BYTES * _pages_per_row(value_bytes(key_type, dimensions), m)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Expected values for a page with some free bytes, until a row opens another page."""

    rows: float
    """Rows that are added, including the opening one."""

    opened: float
    """Pages that the opening row opens: 1, or 2 if its tuples do not fit on one."""

    opening: tuple[float, ...]
    """The probability of each level of the opening row."""


@functools.lru_cache(maxsize=1024)
def _pages_per_row(value_size: int, m: int) -> float:
    """Pages per row in the long run.

    A row is an element tuple and a tuple of its neighbours: 2 × m of them on the lowest level and m on each higher one; one row
    in m reaches the next level. Both tuples go on the current page if they fit, otherwise on a new one; if they never fit on
    one page together, on two. A tuple never spans pages. So the level of the row that opens a page determines the space that
    is left, and the shares of the levels among the opening rows converge.
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
                # An element whose neighbours go to another page may still be stored on this one.
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
    """Bytes of a tuple on a page: aligned, including its line pointer."""
    return -(-size // 8) * 8 + LINE_POINTER_BYTES
