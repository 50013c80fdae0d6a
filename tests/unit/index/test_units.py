"""Sizes and durations as text for people."""

from __future__ import annotations

import pytest

from everindex.units import GIB, KIB, MIB, duration_text, size_setting, size_text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"), (900, "900 bytes"), (8 * KIB, "8 kB"), (312 * KIB, "312 kB"), (MIB, "1 MB"), (1.5 * MIB, "1.5 MB"),
        (9.96 * MIB, "10 MB"), (64 * MIB, "64 MB"), (78.4 * MIB, "78 MB"), (1.4 * GIB, "1.4 GB"), (2000 * GIB, "2000 GB"),
    ],
)  # fmt: skip
def test_a_size_has_one_decimal_below_ten_units(size_bytes: float, text: str) -> None:
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (3 * 3600, "3 h"),
        (3.5 * 3600, "3.5 h"),
        (5 * 86400, "5 days"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_people_would_use(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_setting_is_never_less_than_asked_for() -> None:
    assert size_setting(1433 * MIB + 1) == "1434MB"
