"""A writer hardly notices a deploy, and stands still for the whole of a plain CREATE INDEX: the measurement, made smaller."""

from __future__ import annotations

import os
from types import ModuleType

import pytest

from by_hand import run
from everindex.index.deploy.executor import deploy
from repository import REPOSITORY
from scene import state

ROWS, DIMENSIONS = 5000, 512


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """bench/writers.py, which its processes import by name."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    import writers

    return writers


@pytest.mark.long
def test_a_steady_writer_waits_a_moment_for_a_deploy_and_the_whole_build_for_a_plain_create_index(
    bench: ModuleType, empty: str
) -> None:
    bench.fill(empty, ROWS, DIMENSIONS)

    def beside(work: object) -> dict[str, float]:
        found: dict[str, float] = bench.beside(empty, ROWS, DIMENSIONS, work)
        return found

    quiet = beside(lambda: bench.time.sleep(5))
    load = os.getloadavg()[0]
    deployed = beside(lambda: deploy(empty, bench.SPEC))
    assert state(empty) == [(bench.SPEC.name, True)]
    run(empty, f"DROP INDEX {bench.SPEC.name}")
    plain = beside(lambda: bench.execute(empty, f"CREATE INDEX {bench.BY_HAND}"))
    assert deployed["failed_writes"] == deployed["failed_reads"] == 0
    assert deployed["writes"] > 10
    # A machine that is busy with other things makes single writes wait: its load, or what they were before, is the measure.
    crowd = max(1.0, load / (os.cpu_count() or 1))
    assert deployed["longest_write_ms"] <= max(bench.AIM_MS * crowd, 4 * quiet["longest_write_ms"]), (
        load,
        quiet,
        deployed,
    )
    assert plain["longest_write_ms"] >= 0.7 * plain["seconds"] * 1000, plain
    assert plain["longest_write_ms"] > deployed["longest_write_ms"], (plain, deployed)
