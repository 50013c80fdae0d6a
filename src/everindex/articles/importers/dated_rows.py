"""The conversion of rows to articles, using the source's own evidence about its date format.

`2/7/2026` is read once another row has shown whether the day or the month comes first. Rows wait for that, in order and
in limited memory; without evidence they become articles without that date, and a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from everindex.articles.importers.dates import DateContext, is_in_numbers, order_shown, read_date
from everindex.articles.importers.row import DATE_FIELDS, FIELD_OF, read_row
from everindex.articles.model import Article, RowProblem

#: Rows that wait for evidence, and their size.
MAX_WAITING_ROWS: Final = 2000
MAX_WAITING_CHARS: Final = 4_000_000


class DatedRows:
    """Turns rows into articles, problems and notes, in their order. Not thread-safe."""

    def __init__(self, source: str, defaults: Mapping[str, str], context: DateContext | None = None) -> None:
        self._source = source
        self._defaults = defaults
        self._context = context or DateContext()
        self._is_settled = context is not None
        self._waiting: list[tuple[object, int] | RowProblem] = []
        self._waiting_chars = 0

    def read(self, row: object, line: int) -> Iterator[Article | RowProblem]:
        dates = _dates(row)
        for shown in {order_shown(text) for text in dates} - {None}:
            yield from self._learn(shown)
        if not self._waiting and (self._is_settled or not any(read_date(text).is_order_unknown for text in dates)):
            yield from self._items(row, line)
            return
        self._waiting.append((row, line))
        self._waiting_chars += _size_chars(row)
        if len(self._waiting) > MAX_WAITING_ROWS or self._waiting_chars > MAX_WAITING_CHARS:
            yield from self.finish()

    def pass_on(self, problem: RowProblem) -> Iterator[RowProblem]:
        """Adds a problem at its position among the rows."""
        if self._waiting:
            self._waiting.append(problem)
        else:
            yield problem

    def finish(self) -> Iterator[Article | RowProblem]:
        """The rows that still wait, read with the evidence found so far."""
        waiting, self._waiting, self._waiting_chars = self._waiting, [], 0
        self._is_settled = self._is_settled or bool(waiting)
        for item in waiting:
            if isinstance(item, RowProblem):
                yield item
            else:
                yield from self._items(*item)

    def _learn(self, is_day_first: bool | None) -> Iterator[Article | RowProblem]:
        known = self._context.is_day_first
        if known is None and not self._is_settled:
            self._context = replace(self._context, is_day_first=is_day_first)
        elif known is not None and known != is_day_first:  # both orders in one source: neither is evidence
            self._context = replace(self._context, is_day_first=None)
        yield from self.finish()
        self._is_settled = True

    def _items(self, row: object, line: int) -> Iterator[Article | RowProblem]:
        notes: list[RowProblem] = []
        yield read_row(row, source=self._source, line=line, defaults=self._defaults, context=self._context, notes=notes)
        yield from notes


def _dates(row: object) -> list[str]:
    """The numeric dates of a row, whose order of day and month matters."""
    if not isinstance(row, Mapping):
        return []
    return [
        value
        for key, value in row.items()
        if isinstance(key, str) and FIELD_OF.get(key) in DATE_FIELDS and isinstance(value, str) and is_in_numbers(value)
    ]


def _size_chars(row: object) -> int:
    values = row.values() if isinstance(row, Mapping) else ()
    return sum(len(value) for value in values if isinstance(value, str))
