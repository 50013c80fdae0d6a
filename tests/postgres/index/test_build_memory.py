"""How much memory and how many workers a build gets: the measured formula, its caps, and what happens when it is too little."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

import scene
from by_hand import rows, run
from everindex.index.build.footprint import graph_bytes
from everindex.index.build.memory import choose_settings, settings_for
from everindex.index.deploy.executor import deploy
from everindex.pg.capabilities import look
from everindex.pg.connections import connect
from everindex.units import MIB
from places import open_place
from scene import SPEC, Heard


@pytest.mark.parametrize(
    ("dimensions", "m", "bytes_per_row"), [(1536, 16, 6877), (1536, 32, 7383), (384, 16, 2252)]
)  # measured
def test_the_formula_agrees_with_what_was_measured_within_one_percent(
    dimensions: int, m: int, bytes_per_row: int
) -> None:
    assert graph_bytes(rows=1000, dimensions=dimensions, m=m) == pytest.approx(1000 * bytes_per_row, rel=0.01)


def test_64_mb_hold_about_9700_rows_of_1536_dimensions() -> None:
    assert 64 * MIB / graph_bytes(rows=1, dimensions=1536, m=16) == pytest.approx(9700, rel=0.02)


def chosen(**changed: int | bool) -> tuple[int, int, bool]:
    given = {
        "rows": 100_000,
        "dimensions": 1536,
        "m": 16,
        "current_bytes": 64 * MIB,
        "cap_bytes": 1024 * MIB,
        "server_workers": 2,
        "parallel_is_safe": True,
    } | changed
    settings = choose_settings(**given)  # type: ignore[arg-type]
    return settings.maintenance_work_mem_bytes // MIB, settings.parallel_workers, settings.fits


def test_a_build_gets_what_its_graph_needs_up_to_the_cap_and_never_less_than_the_server_gives() -> None:
    assert chosen() == (757, 2, True)
    assert chosen(cap_bytes=300 * MIB) == (300, 2, False)
    assert chosen(rows=1000) == (64, 1, True)
    assert chosen(rows=1000, current_bytes=2048 * MIB) == (2048, 2, True)
    assert chosen(cap_bytes=16 * MIB) == (64, 1, False)


def test_a_worker_is_asked_for_only_with_32_mb_for_each_participant() -> None:
    assert chosen(rows=10, current_bytes=63 * MIB)[1] == 0
    assert chosen(rows=10, current_bytes=64 * MIB)[1] == 1
    assert chosen(rows=10, current_bytes=96 * MIB)[1] == 2
    assert chosen(rows=10, current_bytes=1024 * MIB, server_workers=0)[1] == 0


@given(
    rows=st.integers(0, 10**9),
    dimensions=st.integers(1, 2000),
    m=st.integers(2, 100),
    current=st.integers(MIB, 10**12),
    cap=st.integers(MIB, 10**12),
    workers=st.integers(0, 64),
)
def test_memory_is_never_under_the_servers_nor_over_the_cap(
    rows: int, dimensions: int, m: int, current: int, cap: int, workers: int
) -> None:
    settings = choose_settings(
        rows=rows,
        dimensions=dimensions,
        m=m,
        current_bytes=current,
        cap_bytes=cap,
        server_workers=workers,
        parallel_is_safe=True,
    )
    assert current <= settings.maintenance_work_mem_bytes <= max(current, cap)
    assert 0 <= settings.parallel_workers <= workers
    assert settings.fits == (settings.needed_bytes <= settings.maintenance_work_mem_bytes)


@pytest.mark.parametrize(
    ("version", "is_parallel"),
    [
        ((0, 5, 1), True),
        ((0, 6, 0), False),
        ((0, 7, 4), False),
        ((0, 8, 1), False),
        ((0, 8, 2), True),
        ((0, 8, 6), True),
    ],
)
def test_versions_whose_parallel_build_is_unsafe_build_with_one_process(
    cluster: Any, version: tuple[int, ...], is_parallel: bool
) -> None:
    from dataclasses import replace

    with connect(cluster.admin) as connection:
        found = replace(look(connection), extension_version=version)
        settings = settings_for(connection, found, table_rows=100_000, dimensions=1536, m=16)
    assert (settings.parallel_workers > 0) == is_parallel
    assert settings.as_settings()["max_parallel_maintenance_workers"] == str(settings.parallel_workers)


def set_for_database(conninfo: str, **settings: str) -> None:
    name = rows(conninfo, "SELECT current_database()")[0][0]
    for setting, value in settings.items():
        run(
            conninfo,
            sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(name), sql.SQL(setting), sql.Literal(value)),
        )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_fewer_workers_that_the_operator_has_chosen_are_not_raised(items: str, workers: str) -> None:
    set_for_database(items, max_parallel_maintenance_workers=workers)
    heard = Heard()
    deploy(items, SPEC, reporter=heard.reporter)
    assert re.search(rf"and {workers} workers?\b", heard.text)


def test_half_of_a_configured_cache_is_the_cap(items: str) -> None:
    set_for_database(items, maintenance_work_mem="64MB", effective_cache_size="400MB")
    with connect(items) as connection:
        settings = settings_for(connection, look(connection), table_rows=1_000_000, dimensions=1536, m=16)
    assert settings.maintenance_work_mem_bytes == 200 * MIB
    assert not settings.fits


def test_a_graph_that_outgrows_its_memory_is_warned_of_with_postgresqls_notice(many_items: str) -> None:
    set_for_database(many_items, maintenance_work_mem="1MB", effective_cache_size="2MB")
    heard = Heard()
    deployed = deploy(many_items, SPEC, reporter=heard.reporter)
    assert deployed.outcome == "built"
    assert any("no longer fits into maintenance_work_mem after" in notice for notice in heard.notices)
    assert any("no longer fits into maintenance_work_mem after" in warning for warning in deployed.warnings)
    assert any("needs about" in warning and "effective_cache_size" in warning for warning in deployed.warnings)


def test_with_enough_memory_there_is_no_warning(many_items: str) -> None:
    heard = Heard()
    assert deploy(many_items, SPEC, reporter=heard.reporter).warnings == ()
    assert not any("no longer fits" in notice for notice in heard.notices)


PROGRAM = """
import pathlib, sys
sys.path.insert(0, {here!r})
import scene
from everindex.index.build import preflight, vector_index
from everindex.index.deploy.executor import deploy
from everindex.index.build.shared_memory import see_shared_memory
from everindex.pg.embedded import running as embedded
if not {sees_machine}:
    vector_index.see_machine = lambda connection: preflight.ServerMachine(
        disk_free_bytes=None, shared_memory=see_shared_memory(connection, pid=None)
    )
with embedded.running(pathlib.Path({home!r}), settings={{"dynamic_shared_memory_type": {kind!r}, "fsync": "off"}}) as conninfo:
    scene.fill_items(conninfo, count=300)
    heard = scene.Heard()
    deployed = deploy(conninfo, scene.SPEC, reporter=heard.reporter)
    print(deployed.outcome)
    print(scene.state(conninfo))
    print(heard.text)
    print("warnings:", *deployed.warnings)
    print("--- log ---", *(file.read_text() for file in pathlib.Path({home!r}).rglob("*.log")))
"""
LITTLE = {"posix": "64m", "mmap": "260m"}
SAID = {
    "posix": "shared memory (/dev/shm) is too small for a parallel build",
    "mmap": "shared memory (pg_dynshmem, on the data disk: dynamic_shared_memory_type is mmap) has no space",
}
REFUSED = "could not resize shared memory segment"


def deploy_with_little_shared_memory(*, sees_machine: bool, kind: str = "posix") -> tuple[str, str]:
    """What a deploy tells, and the server's log, where /dev/shm has 64 MB, or the disk of the data directory little more
    than the server itself needs."""
    limited = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={LITTLE[kind]},mode=1777 tmpfs "$SMALL" && exec "$@"',
        "sh",
    ]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can give a process a small /dev/shm of its own")
    with open_place(on_disk=True) as place:  # the program has another /dev/shm
        environment = os.environ | {"SMALL": "/dev/shm" if kind == "posix" else str(place)}
        if subprocess.run([*limited, "true"], capture_output=True, check=False, env=environment).returncode != 0:
            pytest.skip("this machine does not let root mount")
        program = PROGRAM.format(
            here=str(Path(scene.__file__).parent),
            home=str(place / "server"),
            sees_machine=sees_machine,
            kind=kind,
        )
        done = subprocess.run(
            [*limited, sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("built\n[('items_embedding_idx', True)]\n")
    assert f"warnings: {SAID[kind]}" in done.stdout
    told, _, log = done.stdout.partition("--- log ---")
    return told, log


def test_too_little_disk_for_shared_memory_in_files_makes_the_build_serial_before_it_begins() -> None:
    told, log = deploy_with_little_shared_memory(sees_machine=True, kind="mmap")
    assert REFUSED not in log
    (only,) = (line for line in told.splitlines() if line.startswith("building index"))
    assert only.endswith("and 0 workers")


def test_too_little_shared_memory_that_can_be_seen_makes_the_build_serial_before_it_begins() -> None:
    told, log = deploy_with_little_shared_memory(sees_machine=True)
    assert REFUSED not in log
    (only,) = (line for line in told.splitlines() if line.startswith("building index"))
    assert only.endswith("and 0 workers")


def test_too_little_shared_memory_of_a_machine_that_cannot_be_seen_makes_the_build_serial_once_it_fails() -> None:
    told, log = deploy_with_little_shared_memory(sees_machine=False)
    assert REFUSED in log
    first, second = (line for line in told.splitlines() if line.startswith("building index"))
    assert not first.endswith("and 0 workers")
    assert second.endswith("and 0 workers")
