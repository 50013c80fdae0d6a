"""The common part of rules that judge compared vectors: a failed comparison is unknown, a missing sample gives no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from everindex.doctor.compared_vectors import ComparedVectors
from everindex.doctor.examined import Examined
from everindex.doctor.rule import RuleResult, unknown
from everindex.errors import EverindexError


def judge_compared(
    examined: Examined, judge: Callable[[ComparedVectors], RuleResult | None], *, compared_with: str
) -> Iterator[RuleResult]:
    """The result of `judge` for the sample, which is compared once for all rules; nothing if there is no sample or it has no
    vectors for `judge`, and `unknown` if the comparison failed."""
    try:
        found = examined.compared_vectors
    except EverindexError as exc:
        yield unknown(f"vectors could not be compared with {compared_with}: {exc.why}")
        return
    result = None if found is None else judge(found)
    if result is not None:
        yield result
