"""Fixtures of the tests behind a pooler: one PgBouncer for each mode, before the server that all tests share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.importers import read_source, sample_source
from everindex.articles.instance import Instance
from everindex.migrate import runner
from everindex.settings import Settings
from poolers import pgbouncer, through
from standbys import Pair, pair


@pytest.fixture(scope="session")
def in_transaction_mode(cluster: Any) -> Iterator[Callable[[str], str]]:
    """Leads a connection string through PgBouncer in transaction mode, with three sessions for each database."""
    with pgbouncer(cluster.admin, mode="transaction", default_pool_size=3) as address:
        yield lambda conninfo: through(address, conninfo)


@pytest.fixture(scope="session")
def in_session_mode(cluster: Any) -> Iterator[Callable[[str], str]]:
    """Leads a connection string through PgBouncer in session mode, as Debian sets it up."""
    with pgbouncer(cluster.admin, mode="session") as address:
        yield lambda conninfo: through(address, conninfo)


@pytest.fixture(scope="session")
def _servers() -> Iterator[Pair]:
    """A primary at head with a few hundred articles, and its standby."""
    with pair() as found:
        runner.upgrade(found.primary.conninfo, wait_seconds=0)
        with connect_instance(found.primary.conninfo, settings=Settings()) as instance:
            instance.import_rows(itertools.islice(read_source(str(sample_source())), 400))
        yield found


@pytest.fixture
def replicated(_servers: Pair) -> Pair:
    """The same, both running and the standby up to date."""
    _servers.bring_up()
    return _servers


@pytest.fixture
def open_replicated(replicated: Pair) -> Iterator[Callable[..., Instance]]:
    """Opens instances that write to the primary and read from the standby, or from where DATABASE_URL_READ says."""
    with ExitStack() as stack:

        def opened(**settings: Any) -> Instance:
            wanted = {
                "DATABASE_URL": replicated.primary.conninfo,
                "DATABASE_URL_READ": replicated.standby.conninfo,
            }
            return stack.enter_context(connect_instance(settings=Settings(**wanted | settings)))

        yield opened
