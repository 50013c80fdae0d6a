"""Rule: the vector indexes of the database fit into shared_buffers."""

from __future__ import annotations

from collections.abc import Iterator

from everindex.doctor.examined import Examined
from everindex.doctor.made_settings import set_for_server
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.units import size_setting, size_text


def check(examined: Examined) -> Iterator[RuleResult]:
    indexes = [index for index in examined.indexes if index.is_valid and not index.is_partitioned]
    if not indexes:
        return
    buffers = examined.bytes_of("shared_buffers")
    total = sum(index.size_bytes for index in indexes)
    largest = max(indexes, key=lambda index: index.size_bytes)
    if total <= buffers:
        yield good(f"the vector indexes ({size_text(total)}) fit into shared_buffers ({size_text(buffers)})")
        return
    yield finding(
        f"the vector indexes of this database take {size_text(total)}, but shared_buffers is {size_text(buffers)}; the largest "
        f"is {largest.quoted} with {size_text(largest.size_bytes)}",
        fix=Fix(
            statements=set_for_server("shared_buffers", size_setting(total + total // 4))[:1],
            advice="changing it requires a restart; about a quarter of the machine's memory is usual. A halfvec index has half "
            "the size. After a restart pg_prewarm loads an index before the first search.",
        ),
    )


RULE = Rule(
    slug="shared-buffers-small",
    severity="warning",
    title="vector indexes fit into shared_buffers",
    reason="a search jumps through the whole graph: median 3.8 ms with 128 MB for an index of 493 MB, 1.5 ms when the index fits "
    "and is warm (measured on 63,166 × 1536; pgvector#455).",
    check=check,
)
