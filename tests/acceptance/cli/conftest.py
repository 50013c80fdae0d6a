"""Fixtures of the command tests: addresses as an operator writes them, and a place that ends without servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from command_line import Done, everindex, url_of
from everindex.articles.instance import Instance
from places import open_place


@pytest.fixture
def on_articles(read_only_instance: Instance) -> Callable[..., Done]:
    """Runs commands that only read on a database of 1,500 articles."""
    return lambda *arguments, **others: everindex(
        *arguments, **({"DATABASE_URL": url_of(read_only_instance.conninfo)} | others)
    )


@pytest.fixture
def on_head(migrated: str) -> Callable[..., Done]:
    """Runs commands on a database at head without articles, of the test's own."""
    return lambda *arguments, **others: everindex(*arguments, **({"DATABASE_URL": url_of(migrated)} | others))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's account may enter; a server that a test left there is ended."""
    with open_place() as made:
        yield made
        for pid in postmasters_of(made):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)


def postmasters_of(place: Path) -> list[int]:
    """The running servers whose data lie under `place`."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "postgres" in arguments[0] and any(str(place) in argument for argument in arguments):
                found.append(int(process.name))
    return found


@pytest.fixture
def servers_left(place: Path) -> Callable[[], Any]:
    """Which servers run on data under `place`."""
    return lambda: postmasters_of(place)
