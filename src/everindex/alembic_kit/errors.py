"""Errors of everindex in an `alembic` command: three lines on stderr and exit status 1, without a traceback.

`errors_in_three_lines` is for the end of an env.py. `install` does the same for an env.py that does not use it, when an error
would otherwise leave the process. If Python called Alembic (`alembic.command.upgrade`), the caller gets the error unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from alembic import context
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from everindex.errors import EverindexError, ExtensionNotCreated

#: PostgreSQL's messages when the extension is missing, or not in the search_path.
_NO_TYPES = tuple(f'type "{name}" does not exist' for name in ("vector", "halfvec", "sparsevec"))


@contextmanager
def errors_in_three_lines(config: Config) -> Iterator[None]:
    """Inside the block an error of everindex, or of a database without pgvector, ends the `alembic` command."""
    try:
        yield
    except Exception as exc:
        told = as_ours(exc)
        if config.cmd_opts is None or told is None:
            raise
        print(told, file=sys.stderr)
        sys.exit(1)


def install() -> None:
    """In a process of the `alembic` command, makes an uncaught error of everindex print three lines."""
    try:
        is_command = context.config.cmd_opts is not None
    except (AttributeError, NameError):  # no env.py is running
        return
    if not is_command or getattr(sys.excepthook, "is_everindex", False):
        return
    others = sys.excepthook

    def hook(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        told = as_ours(exc)
        if told is None:
            others(kind, exc, trace)
        else:
            print(told, file=sys.stderr)

    hook.is_everindex = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def as_ours(exc: BaseException) -> EverindexError | None:
    """The error as one of everindex; None for any other. A missing type of pgvector is translated."""
    if isinstance(exc, EverindexError):
        return exc
    if isinstance(exc, DBAPIError):
        first = str(exc.orig).splitlines()[0] if str(exc.orig) else ""
        if any(text in first for text in _NO_TYPES):
            return ExtensionNotCreated(
                "a statement of this revision needs pgvector, which was not found.",
                why=f"PostgreSQL: {first.rpartition('>: ')[2]}; the extension is not created in this database, or its schema is "
                "not in the search_path.",
                next_step="put  op.execute('CREATE EXTENSION IF NOT EXISTS vector')  before the first table, or let a superuser "
                "create it, then run the same alembic command again.",
            )
    return None
