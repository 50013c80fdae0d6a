"""Fixtures of keyword and hybrid search: a table of plain words with vectors for most of it, read by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from animals import animals
from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.settings import Settings
from templates import migrate


@pytest.fixture(scope="session")
def words(cluster: Any) -> Iterator[Instance]:
    """An instance over `animals`; nobody writes to it."""
    conninfo = cluster.database(cluster.template("at_head", migrate))
    with connect_instance(conninfo, settings=Settings()) as instance:
        instance.upsert(animals())
        yield instance


@pytest.fixture
def fresh(migrated: str) -> Iterator[Instance]:
    """An instance at head, without articles."""
    with connect_instance(migrated, settings=Settings()) as instance:
        yield instance
