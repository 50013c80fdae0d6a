"""The articles of a JSONL source with one object per line, or of a file with one JSON list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from everindex.articles.importers.dated_rows import DatedRows
from everindex.articles.importers.detect import UTF8_BOM
from everindex.articles.importers.lines import TOO_LONG, bounded_lines, not_decoded
from everindex.articles.importers.opening import OpenSource
from everindex.articles.model import Article, RowProblem

_SPACE = re.compile(r"[ \t\r\n]*")


def read_jsonl(opened: OpenSource, *, defaults: Mapping[str, str]) -> Iterator[Article | RowProblem]:
    """One item per non-blank line; memory for one line at a time (at most 10 MB)."""
    if opened.head.removeprefix(UTF8_BOM).lstrip().startswith(b"["):
        yield from _read_list(opened, defaults=defaults)
        return
    number = 0
    rows = DatedRows(opened.name, defaults)
    for number, data in bounded_lines(opened):
        if data is None:
            yield from rows.pass_on(opened.problem(number, f"the line is {TOO_LONG}"))
            continue
        if number == 1:
            data = data.removeprefix(UTF8_BOM)
        if data.isspace() or not data:
            continue
        try:
            row = json.loads(data.decode("utf-8"))
        except UnicodeDecodeError as exc:
            where = f"byte 0x{data[exc.start]:02x} at column {exc.start + 1}"
            reason = not_decoded(opened) if opened.encoding else f"not UTF-8: {where}"
            yield from rows.pass_on(opened.problem(number, reason))
        except (ValueError, RecursionError) as exc:
            yield from rows.pass_on(opened.problem(number, _reason(exc)))
        else:
            yield from rows.read(row, number)
    yield from rows.finish()
    yield from opened.problem_at_end(number + 1)


def _reason(exc: ValueError | RecursionError) -> str:
    match exc:
        case json.JSONDecodeError():
            return f"not JSON: {exc.msg} at column {exc.colno}"
        case RecursionError():
            return "not an article: JSON nested too deeply"
        case _:
            return f"not JSON that can be read: {exc}"


def _read_list(opened: OpenSource, *, defaults: Mapping[str, str]) -> Iterator[Article | RowProblem]:
    """Reads element by element, so that only the text is in memory as a whole; after broken JSON the rest is left out."""
    # surrogateescape: invalid bytes are preserved, and row.py refuses only the row that contains them
    text = opened.read_whole().removeprefix(UTF8_BOM).decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder()
    rows = DatedRows(opened.name, defaults)
    line, counted = 1, 0
    position = _after_space(text, text.index("[") + 1)
    try:
        while text[position : position + 1] != "]":
            line, counted = line + text.count("\n", counted, position), position
            row, position = decoder.raw_decode(text, position)
            yield from rows.read(row, line)
            position = _after_space(text, position)
            match text[position : position + 1]:
                case ",":
                    position = _after_space(text, position + 1)
                case "]":
                    pass
                case _:
                    raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
        if _after_space(text, position + 1) != len(text):
            raise json.JSONDecodeError("Extra data after the list", text, position + 1)
    except (ValueError, RecursionError) as exc:
        line += text.count("\n", counted, position)
        yield from rows.pass_on(opened.problem(line, f"the rest could not be read: {opened.damage or _reason(exc)}"))
    yield from rows.finish()


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
