"""Behind PgBouncer in session mode everything works, builds and locks too; where it has no session left, that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.instance import Instance
from everindex.errors import DirectAddressNeeded, LockNotObtained
from everindex.index.catalog.observe import in_search_path, observe
from everindex.index.catalog.roles import declared_index
from everindex.index.deploy.drop import drop
from everindex.index.deploy.executor import deploy
from everindex.index.reporter import Reporter
from everindex.migrate import runner
from everindex.pg import pooler
from everindex.pg.connections import connect
from everindex.pg.locks import advisory_lock
from poolers import pgbouncer, through

Lead = Callable[[str], str]


def test_searches_and_a_deploy_with_its_progress_work(
    filled: str, in_session_mode: Lead, open_instance: Callable[..., Instance]
) -> None:
    address = in_session_mode(filled)
    with connect(address) as connection:
        assert pooler.route_of(connection).is_pooled
        assert pooler.keeps_session(connection)
        spec = in_search_path(connection, EMBEDDING_INDEX)
    drop(address, spec)
    seen: list[Any] = []
    deploy(address, spec, reporter=Reporter(progress=seen.append))
    # The progress is that of a process number, which is not the one that the connection was told.
    assert seen
    with psycopg.connect(filled) as direct:
        index = declared_index(spec, observe(direct, spec))
    assert index is not None
    assert index.is_valid
    instance = open_instance(address)
    assert instance.search("elections").strategy == "index"
    runner.upgrade(address, wait_seconds=0)


def test_a_lock_holds_between_the_pooler_and_the_server_itself(migrated: str, in_session_mode: Lead) -> None:
    with (
        advisory_lock(in_session_mode(migrated), "build", wait_seconds=0),
        pytest.raises(LockNotObtained, match="'build'"),
        advisory_lock(migrated, "build", wait_seconds=0),
    ):
        pass
    with advisory_lock(migrated, "build", wait_seconds=5):
        pass


def test_a_pooler_without_a_free_session_gives_no_lock(
    cluster: Any, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler, "PROBE_SECONDS", 0.3)
    with (
        pgbouncer(cluster.admin, mode="session", default_pool_size=1) as address,
        pytest.raises(DirectAddressNeeded, match="needs its own server session"),
        advisory_lock(through(address, migrated), "build", wait_seconds=0),
    ):
        pass
