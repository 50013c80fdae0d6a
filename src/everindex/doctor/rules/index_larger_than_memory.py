"""Rule: the vector indexes of the database fit into effective_cache_size."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good, unknown
from everindex.units import size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    indexes = [index for index in examined.settled_indexes if not index.is_partitioned]
    if not indexes:
        return
    # The operator's figure for the memory of this server and the system's cache together.
    memory = examined.bytes_of("effective_cache_size")
    total = sum(index.size_bytes for index in indexes)
    largest = max(indexes, key=lambda index: index.size_bytes)
    if total <= memory:
        yield good(f"the vector indexes ({size_text(total)}) fit into the server's cache ({size_text(memory)})")
    elif examined.is_default("effective_cache_size"):
        yield unknown(
            f"the vector indexes take {size_text(total)}, but the memory for caching is not configured: "
            f"effective_cache_size is at its default of {size_text(memory)}"
        )
    else:
        yield finding(
            f"the vector indexes of this database take {size_text(total)}, and the server has {size_text(memory)} for caching "
            f"(effective_cache_size); the largest is {largest.quoted} with {size_text(largest.size_bytes)}",
            fix=Fix(
                advice="everindex tune  finds a smaller configuration that holds its recall: an index on halfvec has half the "
                "size, one on bit codes with re-ranking a sixteenth. Otherwise the server needs more memory; "
                "effective_cache_size should say how much it has."
            ),
        )


RULE = Rule(
    slug="index-larger-than-memory",
    severity="warning",
    title="vector indexes fit into the server's memory",
    reason="a graph search jumps from block to block: if they do not fit into memory, the disk limits its speed (5 searches a "
    "second cold, 110 warm: pgvector/pgvector#455).",
    check=check,
)
