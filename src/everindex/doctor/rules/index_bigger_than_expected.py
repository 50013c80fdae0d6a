"""Takes an HNSW index more than twice the disk that its rows need?"""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.figures import MIB, size_text
from everindex.doctor.rule import Answer, Fix, Rule, finding, good, unknown
from everindex.index.spec import DEFAULT_M

TIMES = 2.0
#: Below this a few half-empty pages make any ratio.
BIG_BYTES = 4 * MIB

PAGE_BYTES = 8192
#: Page header and pgvector's own words at its end.
USABLE_BYTES = PAGE_BYTES - 24 - 8
LINE_POINTER_BYTES = 4
#: pgvector, hnsw.h: HnswElementTupleData up to its vector (flags, up to 10 heap tids, the neighbours' tid), aligned;
#: HnswNeighborTupleData up to its tids; one tid.
ELEMENT_BYTES = 80
NEIGHBOURS_BYTES = 8
TID_BYTES = 6


def ask(examined: Examined) -> Iterator[Answer]:
    for index in examined.settled_indexes:
        details = examined.index_details[index.oid]
        if index.method != "hnsw" or index.is_partitioned or index.size_bytes < BIG_BYTES:
            continue
        m = int(index.options.get("m", DEFAULT_M))
        per_row = bytes_per_row(details.element_type, details.dimensions, m)
        # Entries of a partial index are counted on their own; else the table's are fresher.
        rows = details.rows if details.predicate else index.estimated_rows
        if per_row is None or rows is None:
            yield unknown(
                f"index {index.quoted}: its rows are not known, ANALYZE {index.quoted_table}", about=index.quoted
            )
            continue
        expected = max(1, rows) * per_row
        has = f"index {index.quoted} takes {size_text(index.size_bytes)} for about {rows} rows"
        if index.size_bytes <= TIMES * expected:
            yield good(f"{has}, {size_text(expected)} were expected", about=index.quoted)
            continue
        yield finding(
            f"{has}, where {size_text(expected)} would do ({per_row} bytes a row): the rest is room of deleted rows",
            about=index.quoted,
            fix=Fix(
                statements=(f"REINDEX INDEX CONCURRENTLY {index.quoted}",),
                advice="online, with the disk for both meanwhile, and as long as a build. Deleted room is used again after "
                "VACUUM: rebuild when the searches are slower too.",
            ),
        )


def bytes_per_row(element_type: str, dimensions: int | None, m: int) -> int | None:
    """Disk of one row in a fresh HNSW index; None for sparsevec and without a width.

    An element and its neighbours stand on one page where they fit, as many as fit; else on two. Measured on pgvector 0.8.6:
    vector(1536) 8,192 bytes, halfvec(1536) 4,096, vector(384) 2,049, bit(1536) 501.
    """
    if dimensions is None or element_type not in ("vector", "halfvec", "bit"):
        return None
    data = {"vector": 8 + 4 * dimensions, "halfvec": 8 + 2 * dimensions, "bit": 8 + -(-dimensions // 8)}[element_type]
    element = _aligned(ELEMENT_BYTES + data) + LINE_POINTER_BYTES
    both = element + _aligned(NEIGHBOURS_BYTES + 2 * m * TID_BYTES) + LINE_POINTER_BYTES
    if both > USABLE_BYTES:
        return 2 * PAGE_BYTES
    return PAGE_BYTES // (USABLE_BYTES // both)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


RULE = Rule(
    slug="index-bigger-than-expected",
    severity="warning",
    title="no HNSW index takes more than twice the disk that its rows need",
    reason="an index does not shrink: after many deletions it holds empty pages that searches and the cache pay for. Rebuild "
    "when the size per row has doubled, as pg_index_watch does, and not by the calendar: five cycles of deleting 60 % and "
    "VACUUM left recall at 0.99 (measured).",
    ask=ask,
)
