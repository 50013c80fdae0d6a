"""The statements named by command-line arguments: SQL text, a file of statements, or stdin.

An argument that names a file is a file; everything else is a statement, whatever its length and characters.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from everindex.errors import SourceUnreadable, StatementNotCheckable
from everindex.statement_check.script import checkable
from everindex.statement_check.text import Statement

#: Longest first, since the byte order mark of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STATEMENTS = "SQL statements, or pass the statement itself in quotes"
_BEGINS_AS_SQL = re.compile(
    r"[\s(]*(select|with|table|values|set|begin|start|explain|prepare|insert|update|delete)\b|\s*$|\s*--|\s*/\*", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A statement and its file; None for the command line."""

    file: str | None
    statement: Statement

    @property
    def words(self) -> str:
        where = f"{self.file}:{self.statement.line}" if self.file else ""
        if self.statement.name:
            return f"{self.statement.name} ({where})" if where else self.statement.name
        return where or _first_words(self.statement.text)


def places_of(argument: str) -> Iterator[Place]:
    """The statements of an argument. Raises SourceUnreadable for an unreadable file, StatementNotCheckable if there is
    no statement."""
    file: str | None = None
    if argument == "-" or _is_file(argument):
        file, text = read_script(argument)
    else:
        text = argument
    # A driver runs a text of several statements as one transaction, but not a file.
    found = checkable(text, in_transaction=file is None)
    if not found:
        raise StatementNotCheckable(
            f"{file or 'the text'} has no statement to check.",
            why="it contains no statement that searches.",
            next_step="pass at least one SELECT.",
        )
    for statement in found:
        yield Place(file=file, statement=statement)


def read_script(argument: str) -> tuple[str, str]:
    """(Name, text) of a file of statements, or of stdin for `-`. Raises SourceUnreadable."""
    if argument == "-":
        return "stdin", _decoded(sys.stdin.buffer.read(), "stdin", _STATEMENTS)
    return argument, read_text(argument)


def read_text(path: str, *, holds: str = _STATEMENTS) -> str:
    """A file in UTF-8, or with the byte order mark of UTF-16 or UTF-32. Raises SourceUnreadable."""
    try:
        data = Path(path).read_bytes()
    except IsADirectoryError as exc:
        raise SourceUnreadable(
            f"cannot read {path}.",
            why="it is a directory.",
            next_step=f"name the files in it, such as {path.rstrip('/')}/*.sql.",
        ) from exc
    except (OSError, ValueError) as exc:
        raise _unreadable(path, f"{getattr(exc, 'strerror', None) or exc}.", holds) from exc
    return _decoded(data, path, holds)


def _decoded(data: bytes, path: str, holds: str) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise _unreadable(
            path, f"it is not {encoding.removesuffix('-sig').upper()}: {exc.reason} at byte {exc.start}.", holds
        ) from exc
    if "\0" in text:
        raise _unreadable(
            path, "it contains a NUL character: it is UTF-16 without a byte order mark, or not a text file.", holds
        )
    return text


def _unreadable(path: str, why: str, holds: str) -> SourceUnreadable:
    return SourceUnreadable(
        f"cannot read {path}.",
        why=why,
        next_step=f"name a UTF-8 file that contains {holds}.",
    )


def _is_file(argument: str) -> bool:
    """Whether the argument names a file, existing or not. os.path also handles names that are too long or contain
    invalid bytes."""
    if os.path.exists(argument):  # a pipe of the shell, such as <(…), is no regular file
        return True
    if _BEGINS_AS_SQL.match(argument) or "\n" in argument or len(argument) > 4096:
        return False
    return argument.lower().endswith(".sql") or not re.search(r"\s", argument)


def _first_words(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"
