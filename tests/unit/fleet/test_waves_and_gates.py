"""The waves of a rollout, its error budget, and when its gate closes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.errors import UsageError
from everindex.fleet.results import TargetResult
from everindex.fleet.targets import Target
from everindex.fleet.waves import error_budget, make_waves, why_closed

DONE = TargetResult(name="a", where="", kind="head", outcome="done", sentence="done.", wave=1)
FAILED = replace(DONE, name="b", outcome="failed", sentence="broken.", wave=2)


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.integers(1, 9))
def test_every_target_is_in_exactly_one_wave_and_canaries_come_first(
    marks: list[bool], canaries: int, size: int
) -> None:
    targets = [Target(name=str(number), is_canary=mark) for number, mark in enumerate(marks)]
    waves = make_waves(targets, canaries=canaries, size=size)
    assert sorted(one.name for wave in waves for one in wave) == sorted(one.name for one in targets)
    assert all(waves)
    if any(marks):
        assert all(one.is_canary for one in waves[0])
    assert all(len(wave) <= size for wave in waves[1:])


@pytest.mark.parametrize(
    ("targets", "given", "allowed"),
    [(100, None, 5), (3, None, 1), (100, "0", 0), (30, "5%", 2), (10, "100%", 10), (9, " 7 ", 7)],
)
def test_the_budget_is_a_number_or_a_share(targets: int, given: str | None, allowed: int) -> None:
    assert error_budget(targets, given) == allowed


@pytest.mark.parametrize("given", ["", "x", "-1", "101%", "nan%", "1.5"])
def test_a_budget_that_means_nothing_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="max-failures"):
        error_budget(10, given)


def test_no_canary_may_fail() -> None:
    bad = replace(FAILED, wave=1)
    assert why_closed([DONE, bad], wave=1, is_canary_wave=True, budget=9) == "canary 'b' did not pass: broken."
    assert why_closed([DONE, bad], wave=1, is_canary_wave=False, budget=9) is None


def test_after_the_canaries_the_budget_decides() -> None:
    assert why_closed([DONE, FAILED], wave=2, is_canary_wave=False, budget=1) is None
    finding = replace(FAILED, name="c", outcome="finding")
    assert why_closed([DONE, FAILED, finding], wave=2, is_canary_wave=False, budget=1) == (
        "2 targets did not pass, and 1 may (the last: 'b', 'c')"
    )
    skipped = replace(FAILED, name="d", outcome="skipped")
    assert why_closed([DONE, FAILED, skipped], wave=2, is_canary_wave=False, budget=1) is None
