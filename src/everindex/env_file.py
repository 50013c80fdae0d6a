"""A strict reader of `.env`: a file that could set something other than its author meant is rejected, naming the line.

python-dotenv skips a line that it cannot read, and takes all lines up to the next quote as one value: a DATABASE_URL among
them would be lost, and everindex would silently use another database. Values are never shown.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection
from pathlib import Path

from everindex.errors import SettingInvalid

_NEXT = "write NAME=value, or NAME='value' with both quotes, on that line. Nothing was done, and no database was used."


def read_env_file(path: Path, *, names: Collection[str]) -> dict[str, str]:
    """The variables in the file; those that match one of `names` are in upper case. Empty when there is no file.

    Raises SettingInvalid for a file that cannot be read in full, for a line that python-dotenv would skip, and for a line
    that mentions one of `names` and does not set it.
    """
    if not (path.is_file() or path.is_fifo()):
        return {}
    from dotenv.parser import parse_stream  # takes a tenth of a second, wasted when there is no file
    from dotenv.variables import Variable, parse_variables

    known = {name.upper() for name in names}
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_text_of(path), newline="")):
        text = binding.original.string
        line = binding.original.line + len(re.findall(r"\r\n|\n|\r", text[: len(text) - len(text.lstrip())]))
        if binding.error:
            raise _unreadable(path, line, _why_unreadable(text))
        if binding.key is None:
            continue
        name = binding.key.upper()
        inside = re.split(r"\r\n|\n|\r", text.strip())[1:]
        if inside and (name in known or any(_sets(part) in known for part in inside)):
            raise _unreadable(path, line, _LEFT_OPEN)
        if name not in known:
            if known.intersection(re.findall(r"[A-Z0-9_.-]+", name)):
                raise _unreadable(path, line, "it mentions a setting of everindex but does not set it.")
            found[binding.key] = binding.value or ""
            continue
        if binding.value is None:
            raise _unreadable(path, line, f"it has {name} without a = and a value.")
        for part in parse_variables(binding.value):
            if isinstance(part, Variable) and part.default is None and part.name not in {**os.environ, **found}:
                raise _unreadable(path, line, "it uses ${…} for a variable that is not set anywhere.")
        found[name] = "".join(part.resolve({**os.environ, **found}) for part in parse_variables(binding.value))
    return found


_LEFT_OPEN = "a quote is opened there and not closed, so the lines after it would become part of its value."


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        why = (exc.strerror or type(exc).__name__) if isinstance(exc, OSError) else "it is not UTF-8 text"
    else:
        if "\0" not in text:
            return text
        why = "it is not UTF-8 text"
    raise SettingInvalid(
        f"{path} cannot be read.",
        why=f"{why}.",
        next_step="save it as UTF-8, readable by this user, or remove it. Nothing was done, and no database was used.",
    ) from None


def _sets(line: str) -> str | None:
    """The variable that a line of the file would set if it were the only line."""
    match = re.match(r"\s*(?:export\s+)?'?([^\s='#]+)'?\s*=", line)
    return match[1].upper() if match else None


def _why_unreadable(text: str) -> str:
    _, equals, value = text.partition("=")
    quote = value.lstrip()[:1]
    if not equals:
        return "it is neither NAME=value nor a comment."
    if quote not in ("'", '"'):
        return "the text before the = is not a name."
    closed = re.match(rf"{quote}(?:\\.|[^{quote}\\])*{quote}", value.lstrip(), re.DOTALL)
    if closed is None or "\n" in closed[0] or "\r" in closed[0]:
        return _LEFT_OPEN
    return "there is text after its closing quote."


def _unreadable(path: Path, line: int, why: str) -> SettingInvalid:
    return SettingInvalid(f"line {line} of {path} cannot be read.", why=why, next_step=_NEXT)
