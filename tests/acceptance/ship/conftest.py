"""Fixtures of the tests of what is shipped: shells with and without a database."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from places import open_place
from shipping import Shell
from warm_programs import warm_programs


@pytest.fixture
def shell(empty: str) -> Shell:
    """Commands on an empty database."""
    return Shell(empty)


@pytest.fixture
def lone_shell() -> Shell:
    """Commands without a database."""
    return Shell()


@pytest.fixture(scope="session")
def warm_path() -> Iterator[str]:
    """A PATH whose everindex and alembic are forked instead of started."""
    with open_place() as place, warm_programs(place) as programs:
        yield f"{programs}{os.pathsep}{Shell().environment['PATH']}"


@pytest.fixture
def warm_shell(empty: str, warm_path: str) -> Shell:
    """Commands on an empty database whose scripts fork everindex and alembic instead of starting them."""
    shell = Shell(empty)
    shell.environment["PATH"] = warm_path
    return shell
