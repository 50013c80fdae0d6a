"""A deploy that is told to stop ends within seconds, wherever it is, and leaves nothing half-built."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

import scene
from by_hand import rows
from everindex.errors import DeployStopped
from everindex.index.deploy.executor import deploy
from everindex.pg.locks import advisory_lock
from scene import SPEC, Heard, InBackground, blocked_in, builder_in_phase, state, wait_until

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

IDLE = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'everindex%%'"
)


def test_a_stopped_build_is_cancelled_and_what_it_left_is_removed(many_items: str) -> None:
    stop, heard = threading.Event(), Heard()
    with blocked_in(many_items, scene.OLD_SNAPSHOT):
        deploying = InBackground(lambda: deploy(many_items, SPEC, reporter=heard.reporter, stop=stop))
        builder_in_phase(many_items, scene.OLD_SNAPSHOT)
        started = time.monotonic()
        stop.set()
        with pytest.raises(DeployStopped) as told:
            deploying.finish()
        assert time.monotonic() - started < 10
        found = state(many_items)
    if "was removed" in told.value.next_step:
        assert found == []
    else:
        assert "may be left" in told.value.next_step
    assert wait_until(lambda: rows(many_items, IDLE) == [(0,)])
    assert deploy(many_items, SPEC).outcome in ("built", "rebuilt")
    assert state(many_items) == [(SPEC.name, True)]


def test_a_build_stopped_at_work_leaves_no_index(many_items: str) -> None:
    stop = threading.Event()
    spec = replace(SPEC, ef_construction=1000, m=100)
    deploying = InBackground(lambda: deploy(many_items, spec, stop=stop))
    builder_in_phase(many_items, "building index")
    stop.set()
    with pytest.raises(DeployStopped, match="was stopped") as told:
        deploying.finish()
    assert "The unfinished index was removed." in told.value.next_step
    assert state(many_items) == []


def test_a_deploy_that_waits_for_another_builder_stops_too(many_items: str) -> None:
    stop, heard = threading.Event(), Heard()
    with advisory_lock(many_items, "build", wait_seconds=0):
        deploying = InBackground(lambda: deploy(many_items, SPEC, reporter=heard.reporter, stop=stop))
        wait_until(lambda: "waiting for another build" in heard.text)
        stop.set()
        with pytest.raises(DeployStopped):
            deploying.finish(5)
    assert state(many_items) == []


def test_without_an_order_to_stop_nothing_is_cancelled(many_items: str) -> None:
    assert deploy(many_items, SPEC, stop=threading.Event()).outcome == "built"
    assert "everindex-stop" not in [thread.name for thread in threading.enumerate()]
