"""Rules about what a server is started with: small buffers, little WAL, no autovacuum, prepared transactions, a standby."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from by_hand import run
from everindex.pg.embedded import running as embedded
from everindex.pg.embedded.running import embedded_binaries
from examining import answers, good_after_its_fix, is_good, make_items, the_finding
from places import open_place

#: Minutes in all: the long ring.
pytestmark = pytest.mark.long

SMALL = {
    "fsync": "off",
    "shared_buffers": "1MB",
    "max_wal_size": "32MB",
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "max_prepared_transactions": "4",
    "max_worker_processes": "0",
    "max_parallel_workers": "0",
    "max_replication_slots": "4",
}
#: 4,400 × 1536 float32 are 8 kB each in an HNSW index: more than 32 MB.
LARGER_THAN_WAL = 4_400


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as made:
        yield made


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A server with little of everything, and an index that is larger than its WAL."""
    with open_place() as made, embedded.running(made / "server", settings=SMALL) as admin:
        make_items(admin, rows=LARGER_THAN_WAL, dimensions=1536, options="m = 2, ef_construction = 4")
        yield admin


def test_an_index_larger_than_max_wal_size_is_noted(small: str) -> None:
    finding = the_finding(small, "wal-smaller-than-index")
    assert '"public"."items_idx" writes 34 MB' in finding.sentence
    good_after_its_fix(small, "wal-smaller-than-index", finding)
    run(small, "ALTER SYSTEM RESET max_wal_size", "SELECT pg_reload_conf()")


def test_autovacuum_that_is_off_is_found(small: str) -> None:
    finding = the_finding(small, "autovacuum-off")
    assert finding.sentence == "autovacuum does not run: autovacuum is off"
    good_after_its_fix(small, "autovacuum-off", finding)
    run(small, "ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()")


def test_a_prepared_transaction_that_nobody_finishes_is_found(small: str) -> None:
    is_good(small, "prepared-transactions")
    import psycopg

    with psycopg.connect(small, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("LOCK TABLE items IN ROW EXCLUSIVE MODE")
        connection.execute("PREPARE TRANSACTION 'it''s left'")
    is_good(small, "prepared-transactions")  # younger than five minutes
    finding = the_finding(small, "prepared-transactions", older_than_seconds=0)
    assert finding.fix is not None
    assert finding.fix.statements == ("ROLLBACK PREPARED 'it''s left'",)
    good_after_its_fix(small, "prepared-transactions", finding, older_than_seconds=0)


def test_an_unused_slot_that_keeps_wal_is_found(small: str) -> None:
    is_good(small, "standby-holds-snapshot")
    run(small, "SELECT pg_create_physical_replication_slot('gone', true)")
    is_good(small, "standby-holds-snapshot")
    run(
        small,
        "CREATE TABLE ballast AS SELECT repeat('x', 2000) FROM generate_series(1, 25000)",
        "DROP TABLE ballast",
    )
    finding = the_finding(small, "standby-holds-snapshot")
    assert "'gone' (unused) holds" in finding.sentence
    good_after_its_fix(small, "standby-holds-snapshot", finding)


def test_indexes_that_outgrow_shared_buffers_are_found_and_fit_after_a_restart(place: Path) -> None:
    with embedded.running(place / "server", settings=SMALL) as admin:
        make_items(admin, rows=300, dimensions=1536, options="m = 2, ef_construction = 4")
        buffers = the_finding(admin, "shared-buffers-small")
        assert "shared_buffers is 1 MB" in buffers.sentence
        workers = the_finding(admin, "parallel-build-disabled")
        assert "max_parallel_workers = 0 and max_worker_processes = 0" in workers.sentence
        for finding in (buffers, workers):
            assert finding.fix is not None
            run(admin, *finding.fix.statements)
    with embedded.running(place / "server", settings=SMALL) as admin:
        is_good(admin, "shared-buffers-small")
        is_good(admin, "parallel-build-disabled")


def test_a_standby_is_noted_and_says_nothing_wrong_about_the_primary(place: Path) -> None:
    settings = {"fsync": "off"}
    with embedded.running(place / "server", settings=settings) as admin:
        make_items(admin)
        is_good(admin, "running-on-standby")
        (row,) = [answer.sentence for answer in answers(admin, "data-checksums-off")]
        assert row == "data pages have checksums"
        data = _data_directory(admin)
    _as_its_owner(data, lambda: (data / "standby.signal").touch())
    with embedded.running(place / "server", settings=settings) as admin:
        finding = the_finding(admin, "running-on-standby")
        assert "hot_standby_feedback is off" in finding.sentence
        assert answers(admin, "standby-holds-snapshot") == []
        is_good(admin, "extension-schema-not-in-search-path")
    (data / "standby.signal").unlink()
    _checksums(data, "--disable")
    with embedded.running(place / "server", settings=settings) as admin:
        is_good(admin, "running-on-standby")
        assert "no checksums" in the_finding(admin, "data-checksums-off").sentence
    _checksums(data, "--enable")
    with embedded.running(place / "server", settings=settings) as admin:
        is_good(admin, "data-checksums-off")


def _data_directory(conninfo: str) -> Path:
    import psycopg

    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def _as_its_owner(data: Path, action: object) -> None:
    import os

    assert callable(action)
    action()
    owner = data.stat()
    os.chown(data / "standby.signal", owner.st_uid, owner.st_gid)


def _checksums(data: Path, what: str) -> None:
    """pg_checksums on a server that is down, as the account that owns its files."""
    owner = data.stat()
    program = embedded_binaries().bin_dir / "pg_checksums"
    subprocess.run(
        [str(program), what, "--no-sync", "--pgdata", str(data)],
        check=True,
        capture_output=True,
        user=owner.st_uid,
        group=owner.st_gid,
    )
