"""Databases for the index engine: `items` of 300 and of 3,000 vectors, the start of each kind of plan, and the chain just
before its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import scene
from everindex.settings import current_settings
from plan_kinds import Kind


def _clone(cluster: Any, name: str, fill: Any) -> Iterator[str]:
    conninfo = cluster.database(cluster.template(name, fill))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def items(cluster: Any) -> Iterator[str]:
    """300 vectors of 64 dimensions, no vector index."""
    yield from _clone(cluster, "items_small", lambda conninfo: scene.fill_items(conninfo, count=300))


@pytest.fixture
def many_items(cluster: Any) -> Iterator[str]:
    """3,000 vectors of 64 dimensions, no vector index."""
    yield from _clone(cluster, "items_many", lambda conninfo: scene.fill_items(conninfo, count=3000))


@pytest.fixture
def starts(cluster: Any) -> Callable[[Kind], str]:
    """Clones of the starting state of a kind of plan, on the server of the run."""

    def start(kind: Kind) -> str:
        def fill(conninfo: str) -> None:
            scene.fill_items(conninfo, count=300)
            kind.prepare(conninfo)

        conninfo: str = cluster.database(cluster.template(f"kind-{kind.name}", fill))
        return conninfo

    return start


@pytest.fixture
def before_index(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The chain up to the revision before the index, with 300 articles that have vectors of 64 dimensions."""
    monkeypatch.setenv("EVERINDEX_DIMENSIONS", str(scene.DIMENSIONS))
    current_settings.cache_clear()
    yield from _clone(cluster, "articles_before_index", scene.fill_before_index)
