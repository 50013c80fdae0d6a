"""How does an env.py tell an error of everindex? In its three lines, without the traceback that Alembic would print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.config import Config

from everindex.errors import EverindexError


@contextmanager
def errors_in_three_lines(config: Config) -> Iterator[None]:
    """Inside the block an EverindexError ends the `alembic` command with its text on stderr and exit status 1.

    Where Python called Alembic (`alembic.command.upgrade`), the error goes to the caller as it is.
    """
    try:
        yield
    except EverindexError as exc:
        if config.cmd_opts is None:
            raise
        print(exc, file=sys.stderr)
        sys.exit(1)
