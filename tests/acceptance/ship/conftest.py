"""Fixtures of the tests of what is shipped: shells with and without a database."""

from __future__ import annotations

import pytest

from shipping import Shell


@pytest.fixture
def shell(empty: str) -> Shell:
    """Commands on an empty database."""
    return Shell(empty)


@pytest.fixture
def lone_shell() -> Shell:
    """Commands without a database."""
    return Shell()
