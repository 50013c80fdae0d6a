"""What rules that judge compared vectors have in common: the failed comparison is unknown, the missing sample no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from everindex.doctor.compared_vectors import ComparedVectors
from everindex.doctor.examined import Examined
from everindex.doctor.rule import RuleResult, unknown
from everindex.errors import EverindexError


def judge_compared(
    examined: Examined, judge: Callable[[ComparedVectors], RuleResult | None], *, compared_with: str
) -> Iterator[RuleResult]:
    """What `judge` says of the sample, which is compared once for all rules; nothing where there is none or `judge` has no
    vectors in it, and `unknown` where the comparison failed."""
    try:
        found = examined.compared_vectors
    except EverindexError as exc:
        yield unknown(f"vectors could not be compared with {compared_with}: {exc.why}")
        return
    result = None if found is None else judge(found)
    if result is not None:
        yield result
