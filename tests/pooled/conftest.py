"""Fixtures of the tests behind a pooler: one PgBouncer for each mode, before the server that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from poolers import pgbouncer, through

from everindex.articles.instance import Instance, connect_instance
from everindex.settings import Settings


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


@pytest.fixture
def open_instance() -> Iterator[Callable[..., Instance]]:
    """Opens instances, with settings of the test's choice, and closes them at its end."""
    with ExitStack() as stack:
        yield lambda conninfo, **settings: stack.enter_context(
            connect_instance(conninfo, settings=Settings(**settings))
        )
