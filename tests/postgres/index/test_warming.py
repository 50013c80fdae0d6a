"""An index is brought into memory: by pg_prewarm, by searches, within a time, and never at the price of an error."""

from __future__ import annotations

import threading
import time

import pytest

from by_hand import rows, run
from everindex.index.deploy.executor import deploy
from everindex.index.deploy.warm import warm, warm_in_background
from everindex.pg import own_schema
from scene import SPEC


@pytest.fixture
def indexed(many_items: str) -> str:
    deploy(many_items, SPEC)
    return many_items


def extensions(conninfo: str) -> list[tuple[str, ...]]:
    return rows(
        conninfo,
        "SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'pg_prewarm'",
    )


def test_the_whole_index_is_read_into_shared_buffers(indexed: str) -> None:
    own_schema.ensure(indexed)
    done = warm(indexed, SPEC, max_seconds=10)
    assert done.method == "pg_prewarm"
    assert done.read_bytes == done.index_bytes > 0
    assert done.searches > 0
    assert done.why is None
    run(indexed, "CREATE EXTENSION pg_buffercache")
    size = rows(indexed, "SELECT pg_relation_size('items_embedding_idx') / 8192")
    cached = rows(
        indexed,
        "SELECT count(*) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode('items_embedding_idx') "
        "AND relforknumber = 0 AND reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    assert cached == size


def test_pg_prewarm_is_created_in_our_own_schema_and_goes_with_it(indexed: str) -> None:
    own_schema.ensure(indexed)
    warm(indexed, SPEC, max_seconds=10)
    assert extensions(indexed) == [("pg_prewarm", "everindex_meta")]
    run(indexed, "DROP SCHEMA everindex_meta CASCADE")
    assert extensions(indexed) == []


def test_without_our_schema_nothing_is_created_and_searches_warm_it(indexed: str) -> None:
    done = warm(indexed, SPEC, max_seconds=10)
    assert (done.method, extensions(indexed)) == ("searches", [])
    assert done.searches > 100
    assert "schema everindex_meta, where it would go, is missing" in done.sentence


def test_a_role_that_may_only_read_warms_with_searches(indexed: str) -> None:
    own_schema.ensure(indexed)
    run(
        indexed,
        "DROP ROLE IF EXISTS warm_reader",
        "CREATE ROLE warm_reader LOGIN",
        "GRANT SELECT ON items TO warm_reader",
    )
    done = warm(f"{indexed} user=warm_reader", SPEC, max_seconds=10)
    assert done.method == "searches"
    assert "only a superuser may create it" in done.sentence
    run(indexed, "DROP OWNED BY warm_reader", "DROP ROLE warm_reader")


def test_no_more_is_read_than_the_time_allows(indexed: str) -> None:
    own_schema.ensure(indexed)
    started = time.monotonic()
    done = warm(indexed, SPEC, max_seconds=0)
    assert (done.method, done.read_bytes, done.searches) == ("nothing", 0, 0)
    assert time.monotonic() - started < 5


def test_warming_is_stopped_by_who_wants_to_end(indexed: str) -> None:
    stop = threading.Event()
    stop.set()
    assert warm(indexed, SPEC, max_seconds=60, stop=stop).method == "nothing"


def test_where_no_index_serves_that_is_said_and_no_error(many_items: str) -> None:
    done = warm(many_items, SPEC, max_seconds=10)
    assert done.sentence == "index items_embedding_idx: nothing was warmed: no valid index serves"


def test_in_the_background_no_error_reaches_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    thread = warm_in_background("host=127.0.0.1 port=1 dbname=none", SPEC, max_seconds=1)
    thread.join(10)
    assert not thread.is_alive()
    assert "fault of the program" not in caplog.text


def test_a_generation_of_codes_is_warmed_as_well(many_items: str) -> None:
    from dataclasses import replace

    own_schema.ensure(many_items)
    codes = replace(SPEC, opclass="bit_hamming_ops", recall_floor=0.1)
    deploy(many_items, codes)
    done = warm(many_items, codes, max_seconds=10)
    assert done.read_bytes == done.index_bytes > 0
