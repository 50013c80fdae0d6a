"""What a running build tells: phase, share, rows a second and time left, never a number that nothing stands behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scene
from everindex.alembic_kit.report import describe_progress
from everindex.index.activity import progress
from everindex.index.activity.progress import Progress, ProgressMeter
from everindex.index.deploy.executor import deploy
from scene import SPEC, Heard


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def read(
    meter: ProgressMeter, *, phase: str = "loading", blocks: int = 0, of: int = 1000, rows_total: int = 5000
) -> Progress:
    return meter.read(
        phase=phase, blocks_done=blocks, blocks_total=of, rows_done=0, rows_total=rows_total, waits_for=()
    )


def test_the_first_reading_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    first = read(ProgressMeter())
    assert first.rows_per_second is None
    assert first.seconds_left is None
    assert first.share_done == 0.0


def test_rate_share_and_time_left_come_from_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = ProgressMeter()
    read(meter)
    clock.now += 5
    second = read(meter, blocks=250)
    assert second.share_done == 0.25
    assert second.rows_per_second == pytest.approx(250)
    assert second.seconds_left == pytest.approx(15)
    told = describe_progress(second)
    assert told.startswith("loading, block 250")
    assert "250 rows/s" in told
    assert told.endswith("15 s left")


def test_a_build_that_slows_down_is_believed_and_not_its_past(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = ProgressMeter()
    blocks = 0
    for second in range(40):
        clock.now += 1
        blocks += 20 if second < 20 else 2
        last = read(meter, blocks=blocks)
    assert last.rows_per_second == pytest.approx(10, rel=0.05)
    assert last.seconds_left == pytest.approx((1000 - blocks) / 2, rel=0.05)


def test_a_new_phase_begins_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    meter = ProgressMeter()
    read(meter)
    clock.now += 1
    read(meter, blocks=900)
    clock.now += 1
    other = read(meter, phase="waiting for old snapshots", blocks=0, of=0)
    assert other.rows_per_second is None
    assert other.seconds_left is None
    assert other.share_done is None


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), min_size=1, max_size=30))
def test_no_reading_is_ever_negative_or_more_than_all(steps: list[tuple[float, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        meter = ProgressMeter()
        blocks = 0
        for seconds, done in steps:
            clock.now += seconds
            blocks = min(1000, blocks + done)
            told = read(meter, blocks=blocks)
            assert 0 <= (told.share_done or 0) <= 1
            assert told.seconds_left is None or told.seconds_left >= 0
            assert told.rows_per_second is None or told.rows_per_second > 0
            assert describe_progress(told)


def test_a_real_build_tells_a_growing_share_and_a_rate_that_fits_its_duration(empty: str) -> None:
    scene.fill_items(empty, count=12_000, dimensions=256)
    heard = Heard()
    deployed = deploy(empty, SPEC, reporter=heard.reporter)
    loading = [told for told in heard.progress if "loading" in told.phase]
    assert len(loading) >= 2, [told.phase for told in heard.progress]
    shares = [told.share_done for told in loading if told.share_done is not None]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    rates = [told.rows_per_second for told in loading if told.rows_per_second]
    assert rates
    whole = 12_000 / deployed.build_seconds
    assert all(whole / 10 < rate < whole * 30 for rate in rates), (whole, rates)
    assert all(told.seconds_left < 20 * deployed.build_seconds + 5 for told in loading if told.seconds_left is not None)


def test_a_build_without_anybody_to_tell_needs_no_second_connection(items: str) -> None:
    from everindex.index.reporter import Reporter

    assert deploy(items, SPEC, reporter=Reporter(say=lambda text: None, notice=lambda text: None)).outcome == "built"
