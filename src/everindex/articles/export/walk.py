"""The walk of an export through the pages of a search, into a file.

Every page is a search of its own, so nothing is held on the server between two pages; what holds for pages holds here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from everindex.articles.export.writers import FORMATS, ExportFormat, ExportWriter
from everindex.articles.model import MAX_K, Answer
from everindex.articles.search.request.search_request import SearchRequest
from everindex.errors import QueryInapplicable, QueryInvalid, UsageError

#: The most hits of one export.
MAX_EXPORT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export has written."""

    rows: int
    notices: list[str] = field(default_factory=list)
    """What its answers said, each once."""


def walk(search: Callable[[SearchRequest], Answer], request: SearchRequest, *, limit: int) -> Iterator[Answer]:
    """The answers of the pages of a search, until there are `limit` hits or no more."""
    while True:
        answer = search(request)
        yield answer
        limit -= len(answer.hits)
        following = next_page(request, answer, left=limit)
        if following is None:
            return
        request = following


def first_page(request: SearchRequest, *, limit: int) -> SearchRequest:
    """The request of the first page of an export of `request`. Its order is that of the search: what the settings re-rank is
    one page. Raises QueryInvalid."""
    if not 1 <= limit <= MAX_EXPORT:
        raise QueryInvalid(
            f"{limit} hits cannot be exported.",
            why=f"an export has 1 to {MAX_EXPORT:,} hits.",
            next_step="narrow it with filters, and export part by part.",
        )
    if request.group_duplicates:
        raise QueryInapplicable(
            "an export does not group near-duplicates.",
            why="it has a row for each article.",
            next_step="leave group_duplicates out.",
        )
    return replace(request, k=min(limit, MAX_K), facets=(), rerank=0 if request.rerank is None else request.rerank)


def next_page(request: SearchRequest, answer: Answer, *, left: int) -> SearchRequest | None:
    """The request of the page after `answer`, with at most `left` hits; None where there is none."""
    cursor = answer.next_cursor if left > 0 and answer.hits else None
    return None if cursor is None else replace(request, k=min(left, MAX_K), after=cursor, rerank=0)


def format_of(path: str, format: ExportFormat | None) -> ExportFormat:
    """The format of an export into `path`: as asked for, or as its name ends. Raises UsageError."""
    ending = Path(path).suffix.lower().removeprefix(".").replace("ndjson", "jsonl")
    for known in FORMATS:
        if known == (format or ending):
            return known
    raise UsageError(
        f"{format!r} is not a format of exports." if format else f"the name {path!r} shows no format.",
        why=f"a result is exported as {', '.join(FORMATS)}.",
        next_step="name one of them, or a file that ends in .csv, .jsonl or .parquet.",
    )


def export_to(to: str | os.PathLike[str] | BinaryIO, answers: Iterator[Answer], writer: ExportWriter) -> Exported:
    """Writes the hits into a file that appears when it is whole, or into a binary stream. Raises UsageError where the file
    cannot be written, and what the search raises."""
    if not isinstance(to, (str, os.PathLike)):
        return _written(to, answers, writer)
    path = Path(to)
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            with part.open("wb") as file:
                done = _written(file, answers, writer)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise UsageError(
            f"the result could not be written into {path}.",
            why=f"{exc.strerror or exc}.",
            next_step="name a file in a directory that exists and that this user may write to.",
        ) from exc
    return done


def _written(file: BinaryIO, answers: Iterator[Answer], writer: ExportWriter) -> Exported:
    rows, notices = 0, dict[str, None]()
    file.write(writer.begin())
    for answer in answers:
        file.write(writer.rows(answer.hits))
        rows += len(answer.hits)
        notices |= dict.fromkeys(answer.notices)
    file.write(writer.end())
    return Exported(rows=rows, notices=list(notices))
