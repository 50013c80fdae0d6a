"""How large will an index be on disk? From pgvector's page layout, which the measurements follow."""

from __future__ import annotations

from everindex.index.build.memory import value_bytes

PAGE_BYTES = 8192
#: What a page holds besides its tuples (PageHeaderData and pgvector's opaque data), and of each tuple besides its value
#: (HnswElementTupleData with its line pointer).
PAGE_OVERHEAD_BYTES = 32
ELEMENT_OVERHEAD_BYTES = 80
#: pgvector, HnswNeighborTupleData: 6 bytes a neighbour, 2 × m of them on the lowest level; higher levels are rare.
NEIGHBOUR_BYTES = 6


def index_bytes(*, rows: int, dimensions: int, m: int, key_type: str = "vector") -> int:
    """Bytes on disk of an HNSW index over `rows` values, within some 10 %: as many whole rows to a page as fit.

    Where an element and its neighbours do not fit on one page together, each has its own: vector(2000) takes twice what
    vector(1536) takes.
    """
    row_bytes = value_bytes(key_type, dimensions) + ELEMENT_OVERHEAD_BYTES + 2 * m * NEIGHBOUR_BYTES + m
    rows_a_page = (PAGE_BYTES - PAGE_OVERHEAD_BYTES) // row_bytes
    if rows_a_page == 0:
        return 2 * rows * PAGE_BYTES
    return -(-rows // rows_a_page) * PAGE_BYTES
