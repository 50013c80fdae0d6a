"""Which articles does a source hold? JSONL, CSV, RSS and Atom become articles, or the reason why a row is none."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import assert_never

from everindex.articles.importers.csv_rows import read_csv
from everindex.articles.importers.detect import Format, detect_format
from everindex.articles.importers.feed import read_feed
from everindex.articles.importers.jsonl import read_jsonl
from everindex.articles.importers.opening import open_source
from everindex.articles.importers.row import RefusedError, read_row, read_text
from everindex.articles.model import Article, RowProblem
from everindex.errors import UsageError

__all__ = ["Format", "read_row", "read_source", "sample_source"]


def read_source(
    source: str,
    *,
    format: Format | None = None,
    news_source: str | None = None,
    category: str | None = None,
    topic: str | None = None,
) -> Iterator[Article | RowProblem]:
    """The articles of a file (or of standard input, `-`), gzip or not, and a RowProblem for each row that is none.

    Without `format` the ending decides, else the first bytes. `news_source`, `category` and `topic` fill rows that
    lack them. Rows come in the order of the source; a uri that comes twice comes out twice. JSONL and CSV are read
    line by line, feeds and JSON lists as a whole (at most 50 MB). Reads only; no network.
    Raises UsageError at once for a default that no article may have, and SourceUnreadable with the first `next()` for
    a source that cannot be opened, is empty or is of no known format.
    """
    given = {"news_source": news_source, "category": category, "topic": topic}
    return _read(source, format, _checked(given))


def sample_source() -> Path:
    """The packaged sample: 9,940 news items of CPython, JSONL in gzip; sample/README.md tells their origin."""
    return Path(str(files("everindex.articles").joinpath("sample", "cpython_news.jsonl.gz")))


def _read(source: str, format: Format | None, defaults: dict[str, str]) -> Iterator[Article | RowProblem]:
    with open_source(source) as opened:
        found = detect_format(source, opened) if format is None else format
        match found:
            case "jsonl":
                yield from read_jsonl(opened, defaults=defaults)
            case "csv":
                yield from read_csv(opened, defaults=defaults)
            case "feed":
                yield from read_feed(opened, defaults=defaults)
            case _:
                assert_never(found)


def _checked(given: dict[str, str | None]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, value in given.items():
        try:
            text = "" if value is None else read_text(name, value)
        except RefusedError as refused:
            raise UsageError(
                f"{name} cannot be given to the imported articles.",
                why=f"{refused}.",
                next_step=f"give a shorter or plainer {name}, or leave it out.",
            ) from refused
        if text:
            checked[name] = text
    return checked
