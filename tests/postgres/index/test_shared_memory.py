"""Shared memory of a parallel build is looked for where the server takes it from: /dev/shm, the data disk, the kernel."""

from __future__ import annotations

import os

import pytest

import scene
from by_hand import run
from everindex.index.build.preflight import see_machine
from everindex.index.build.shared_memory import SharedMemory
from everindex.index.deploy.executor import deploy
from everindex.pg.connections import connect
from everindex.pg.embedded import running as embedded
from places import open_place
from scene import SPEC

MB = 1 << 20


@pytest.mark.parametrize("kind", ["mmap", "sysv"])
def test_it_is_seen_where_the_server_takes_it_from(kind: str) -> None:
    settings = {"fsync": "off", "dynamic_shared_memory_type": kind}
    with open_place() as place, embedded.running(place / "server", settings=settings) as admin:
        with connect(admin) as connection:
            machine = see_machine(connection)
        shared = machine.shared_memory
        assert shared.kind == kind
        assert shared.is_on_data_disk is (kind == "mmap")
        assert shared.free_bytes is not None
        if kind == "mmap":
            found = os.statvfs(place)
            assert abs(shared.free_bytes - found.f_bavail * found.f_frsize) < 512 * MB
        scene.fill_items(admin, count=300)
        run(admin, "ALTER TABLE items SET (parallel_workers = 2)")
        assert deploy(admin, SPEC).outcome == "built"


def test_what_lies_on_the_data_disk_has_to_hold_the_index_too() -> None:
    on_disk = SharedMemory(kind="mmap", free_bytes=1000 * MB, is_on_data_disk=True)
    elsewhere = SharedMemory(kind="posix", free_bytes=1000 * MB)
    for shared, fits in ((on_disk, False), (elsewhere, True)):
        assert shared.holds(600 * MB, beside_bytes=500 * MB) is fits
        assert shared.holds(400 * MB, beside_bytes=500 * MB)
        assert not shared.holds(1001 * MB, beside_bytes=0)
    assert SharedMemory(kind="sysv", free_bytes=None).holds(1 << 60, beside_bytes=1 << 60)


def test_each_kind_names_its_own_limit() -> None:
    said = {kind: SharedMemory(kind=kind, free_bytes=0).shortage() for kind in ("posix", "mmap", "sysv")}
    assert "/dev/shm" in said["posix"]
    assert "data disk" in said["mmap"]
    assert "kernel.shmmax" in said["sysv"]
    assert all("one process built the index" in text for text in said.values())
