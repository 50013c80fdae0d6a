"""The state file of a rollout: what a killed process leaves can be continued, and two processes never share it."""

from __future__ import annotations

from pathlib import Path

import pytest

from everindex.errors import RolloutRefused
from everindex.fleet.results import TargetResult
from everindex.fleet.rollout_state import RolloutState, state_path

RESULT = TargetResult(
    name="acme",
    where="database acme",
    kind="head",
    outcome="done",
    sentence="built.",
    did=("built",),
    digest="d1",
    recall=0.99,
)


def test_a_rollout_is_continued_with_what_was_done_and_what_was_begun(tmp_path: Path) -> None:
    path = state_path(tmp_path / "t.csv", "deploy")
    assert path.name == "t.csv.deploy.state"
    with RolloutState(path, verb="deploy") as first:
        assert not first.is_resumed
        first.begin("acme", {})
        first.end(RESULT)
        first.begin("globex", {"serving": {"idx": 7}})
    with RolloutState(path, verb="deploy") as second:
        assert second.records == {"acme": RESULT}
        assert second.begun["globex"]["serving"] == {"idx": 7}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_unfinished_last_line_is_ignored_and_what_follows_is_read(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "state"
    with RolloutState(path, verb="heal") as first:
        first.end(RESULT)
        first.end(TargetResult(name="b", where="", kind="head", outcome="done", sentence="x" * 60))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with RolloutState(path, verb="heal") as second:
        assert "acme" in second.records
        second.end(TargetResult(name="c", where="", kind="head", outcome="failed", sentence="y"))
    with RolloutState(path, verb="heal") as third:
        assert {"acme", "c"} <= set(third.records)


def test_a_finished_rollout_begins_anew_and_so_does_one_that_is_restarted(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with RolloutState(path, verb="heal") as first:
        first.end(RESULT)
        first.finish()
    with RolloutState(path, verb="deploy") as second:
        assert not second.is_resumed
        second.end(RESULT)
    with RolloutState(path, verb="heal", starts_anew=True) as third:
        assert not third.is_resumed


def test_a_file_in_use_of_another_verb_or_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path, other = tmp_path / "state", tmp_path / "notes.txt"
    other.write_text("my notes\n")
    with RolloutState(path, verb="heal") as first:
        first.end(RESULT)
        with pytest.raises(RolloutRefused, match=r"state file"):
            RolloutState(path, verb="heal")
    with pytest.raises(RolloutRefused):
        RolloutState(path, verb="deploy")
    with pytest.raises(RolloutRefused):
        RolloutState(other, verb="deploy")
    with pytest.raises(RolloutRefused):
        RolloutState(tmp_path / "no" / "folder", verb="deploy")
    assert other.read_text() == "my notes\n"
