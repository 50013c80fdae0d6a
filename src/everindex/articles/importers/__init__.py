"""The articles of a source: rows of JSONL, CSV, feeds, Parquet and Arrow become articles, or problems with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import assert_never

from everindex.articles.importers.csv_rows import read_csv
from everindex.articles.importers.detect import Format, detect_columnar, detect_format
from everindex.articles.importers.feed import read_feed
from everindex.articles.importers.feed_entries import is_address
from everindex.articles.importers.jsonl import read_jsonl
from everindex.articles.importers.opening import open_source
from everindex.articles.importers.row import RefusedError, read_row, read_text
from everindex.articles.importers.text_encodings import codec_of
from everindex.articles.model import Article, RowProblem
from everindex.errors import UsageError

__all__ = ["Format", "read_row", "read_source", "sample_source"]


def read_source(
    source: str,
    *,
    format: Format | None = None,
    encoding: str | None = None,
    base: str | None = None,
    news_source: str | None = None,
    category: str | None = None,
    topic: str | None = None,
) -> Iterator[Article | RowProblem]:
    """The articles of a file (or of standard input, `-`), gzip or not, and a RowProblem for each row that is none.

    Without `format` the first bytes decide where they are unambiguous, otherwise the file extension. `encoding` is a
    label as browsers know it, for a source that is neither UTF-8 nor declares its encoding; `base` is the address of a
    feed, for relative links where the feed does not give its own. A RowProblem with `is_note` follows its article and
    says which value of it could not be read; every other RowProblem stands for a row that was left out. `news_source`,
    `category` and `topic` fill rows that lack them. Rows keep the order of the source; a repeated uri is returned each
    time. JSONL and CSV are read line by line, Parquet and Arrow files batch by batch
    (with everindex[parquet]), feeds and JSON lists as a whole (at most 50 MB). Reads only; no network.
    Raises UsageError at once for a default that no article may have, an unknown encoding or a base that is not an
    address; raises SourceUnreadable at the first `next()` for a source that cannot be opened, is empty or has no known
    format.
    """
    given = {"news_source": news_source, "category": category, "topic": topic}
    return _read(source, format, _codec(encoding), _address(base), _checked(given))


def sample_source() -> Path:
    """The packaged sample: 9,940 news items of CPython, gzipped JSONL; sample/README.md describes their origin."""
    return Path(str(files("everindex.articles").joinpath("sample", "cpython_news.jsonl.gz")))


def _read(
    source: str, format: Format | None, codec: str | None, base: str | None, defaults: dict[str, str]
) -> Iterator[Article | RowProblem]:
    with open_source(source) as opened:
        columnar = detect_columnar(source, opened.head) if format is None else format
        if columnar == "parquet" or columnar == "arrow":
            # Imported here, since pyarrow is an extra.
            from everindex.articles.importers.columnar import read_columnar

            yield from read_columnar(opened, columnar, defaults=defaults)
            return
        opened.decode_as(codec)
        found = detect_format(source, opened) if format is None else format
        match found:
            case "parquet" | "arrow":
                raise AssertionError("read above")
            case "jsonl":
                yield from read_jsonl(opened, defaults=defaults)
            case "csv":
                yield from read_csv(opened, defaults=defaults)
            case "feed":
                yield from read_feed(opened, defaults=defaults, base=base)
            case _:
                assert_never(found)


def _codec(label: str | None) -> str | None:
    codec = None if label is None else codec_of(label)
    if label is not None and codec is None:
        raise UsageError(
            f"{label[:40]!r} is not a known encoding.",
            why="encodings are named by the labels that browsers know.",
            next_step="use a label such as utf-8, windows-1252, gb2312, shift_jis or euc-kr.",
        )
    return codec


def _address(base: str | None) -> str | None:
    if base is not None and not is_address(base):
        raise UsageError(
            f"{base[:80]!r} cannot be the base of a feed.",
            why="relative links are resolved against an address that begins with http:// or https://.",
            next_step="pass the address from which the feed was downloaded.",
        )
    return base


def _checked(given: dict[str, str | None]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, value in given.items():
        try:
            text = "" if value is None else read_text(name, value)
        except RefusedError as refused:
            raise UsageError(
                f"{name} cannot be set on the imported articles.",
                why=f"{refused}.",
                next_step=f"pass a shorter or plainer {name}, or leave it out.",
            ) from refused
        if text:
            checked[name] = text
    return checked
