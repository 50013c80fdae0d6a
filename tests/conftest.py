"""Fixtures of all tests: real servers in a private place, one template database per run, a clone for each test."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# As the command does, and before numpy is loaded: where more processes run than there are cores, two threads of OpenBLAS
# that wait for each other take twenty times as long as one, and everything in their process waits with them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from clusters import FOR_TESTS, Cluster
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.pg.embedded import running as embedded
from everindex.settings import Settings, current_settings
from places import open_place
from roles_of_tests import as_app
from templates import FILLED_ROWS, filled_with, migrate
from words_in_memory import remembered

# A run started in the background of a script has SIGINT ignored, and so would have every command that a test starts and
# then interrupts. A handler of this process is back to the default in its children.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection() -> None:
    """What is imported and collected stays until the end: looking for garbage among it was half of the time of collecting."""
    gc.disable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core, and one more for what other tests leave of them while they wait for servers and processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waits = any("unit" not in Path(each).parts for each in config.args)
    return cores + waits


def pytest_collection_finish() -> None:
    """Modules and tests stay until the end: looking for garbage among them again and again was a sixth of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


#: What a test must not take over from whoever runs it.
SETTING_PREFIXES = ("DATABASE_URL", "DB_", "EVERINDEX_", "OPENAI_", "EMBEDDING_", "PG")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No setting from outside, no .env and no data of the repository: tests start in an empty directory."""
    names = ("PORT", "SSL_CERT_FILE")
    kept = {name: value for name, value in os.environ.items() if name.startswith(SETTING_PREFIXES) or name in names}
    for name in kept:
        del os.environ[name]
    before = Path.cwd()
    with open_place() as place:
        os.environ["EVERINDEX_HOME"] = str(place / "home")
        # Each HTTP client reads all authorities that it trusts, which takes longer than most requests: here there is one.
        for authority in ssl.create_default_context().get_ca_certs(binary_form=True)[:1]:
            (place / "authority.pem").write_text(ssl.DER_cert_to_PEM_cert(authority))
            os.environ["SSL_CERT_FILE"] = str(place / "authority.pem")
        os.chdir(place)
        yield
        os.chdir(before)
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ.update(kept)


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    current_settings.cache_clear()
    yield
    current_settings.cache_clear()


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
    """An open instance shared by all tests that only read, as the role of the web application; the words are in
    memory from the start, so that equal searches give equal scores."""
    conninfo = as_app(cluster.database(with_articles))
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield remembered(opened)


@pytest.fixture
def open_instance() -> Iterator[Callable[..., Instance]]:
    """Opens instances, with settings of the test's choice, and closes them at its end."""
    with ExitStack() as stack:
        yield lambda conninfo, **settings: stack.enter_context(
            connect_instance(conninfo, settings=Settings(**settings))
        )


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's account may enter, also when root runs the tests."""
    with open_place() as made:
        yield made
