"""Fixtures of the article tests: golden answers, a table of the test's own, an endpoint that really answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedding_fixtures import _server, endpoint
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.settings import Settings
from golden_answers import Golden, golden_of
from places import open_place
from templates import MANY_ROWS, filled_with


@pytest.fixture(scope="session")
def with_articles(cluster: Any) -> str:
    """The template of databases at head with MANY_ROWS real articles."""
    name: str = cluster.template("with_many_articles", filled_with(MANY_ROWS))
    return name


@pytest.fixture(scope="session")
def read_only_instance(cluster: Any, with_articles: str) -> Iterator[Instance]:
    """An open instance shared by all tests here that only read."""
    conninfo = cluster.database(with_articles)
    with connect_instance(conninfo, settings=Settings()) as opened:
        yield opened


@pytest.fixture(scope="session")
def golden(read_only_instance: Instance) -> Golden:
    """The rows of `read_only_instance`, for answers computed without PostgreSQL."""
    return golden_of(read_only_instance)


@pytest.fixture
def sql(instance: Instance) -> Iterator[psycopg.Connection]:
    """A connection of somebody else to the database of `instance`."""
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        yield connection
