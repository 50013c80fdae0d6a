"""The waves of a rollout and the gate between them: pure. The canaries go first and alone, and none of them may fail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from everindex.errors import UsageError
from everindex.fleet.results import TargetResult
from everindex.fleet.targets import Target

#: The share of the targets that may fail after the canaries, unless the caller says how many.
BUDGET_SHARE = 0.05


def make_waves(targets: Sequence[Target], *, canaries: int, size: int) -> tuple[tuple[Target, ...], ...]:
    """The canaries (those marked, otherwise the first `canaries`), then waves of `size` in the order of the targets.

    Every target is in exactly one wave; no wave is empty.
    """
    marked = [target for target in targets if target.is_canary] or list(targets[:canaries])
    names = {target.name for target in marked}
    rest = [target for target in targets if target.name not in names]
    following = [tuple(rest[start : start + size]) for start in range(0, len(rest), size)]
    return tuple(wave for wave in (tuple(marked), *following) if wave)


def error_budget(targets: int, given: str | None) -> int:
    """How many targets may fail after the canaries: a number, a percentage (`5%`, rounded up), or by default BUDGET_SHARE.

    Raises UsageError for anything else.
    """
    if given is None:
        return max(1, math.ceil(targets * BUDGET_SHARE))
    text = given.strip()
    share = text.endswith("%")
    try:
        number = float(text.removesuffix("%")) if share else int(text)
        is_valid = 0 <= number <= (100 if share else math.inf)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise UsageError(
            f"--max-failures {given[:40]} is not valid.",
            why="it is a number of targets, or a percentage from 0% to 100%.",
            next_step="write  --max-failures 3  or  --max-failures 5% .",
        )
    return math.ceil(targets * number / 100) if share else int(number)


def why_closed(results: Iterable[TargetResult], *, wave: int, is_canary_wave: bool, budget: int) -> str | None:
    """Why no other target may begin, from the results so far; None while the gate is open."""
    bad = [result for result in results if result.is_bad]
    canary = next((result for result in bad if is_canary_wave and result.wave == wave), None)
    if canary is not None:
        return f"canary {canary.name!r} did not pass: {canary.sentence}"
    if len(bad) > budget:
        names = ", ".join(repr(result.name) for result in bad[-3:])
        return f"{len(bad)} targets did not pass, and {budget} may (the last: {names})"
    return None
