"""Which text does a statement have? Composed once for each shape, so that it is prepared once on each connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everindex.articles.model import Filters
from everindex.articles.search import statement
from everindex.articles.search.condition import values
from everindex.articles.search.strategy import Approach
from everindex.articles.table import ArticleTable
from everindex.pg import roundtrip


@dataclass(slots=True)
class Text:
    """One statement, written in both ways."""

    named: str
    """With psycopg's named placeholders."""

    positional: str
    """With libpq's `$1 …`."""

    names: tuple[str, ...]
    """The parameters in that order."""


#: Whoever asks chooses k, filters and pages: 1,000 × 32 × 2 shapes of each strategy, 5 kB each. Of ordinary use are a few dozen.
MOST_TEXTS = 500


class Texts:
    """The statements of one state of table and index, MOST_TEXTS at most: then they are composed anew."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Any, ...], Text] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, table: ArticleTable, filters: Filters, approach: Approach, k: int) -> tuple[Text, dict[str, str]]:
        """The statement of an approach, and the parameters of the filters."""
        given = values(filters)
        return self.text(table, filters, given, approach, k), given

    def text(
        self, table: ArticleTable, filters: Filters, filter_values: Mapping[str, str], approach: Approach, k: int
    ) -> Text:
        """The same for filters whose parameters are known."""
        # Strategies of other settings or another order must not share a text: a prepared statement keeps its plan.
        key = (approach.strategy, k, approach.fetch, approach.candidates, approach.continues, *filter_values)
        kept = self._texts.get(key)
        if kept is None:
            composed, _ = statement.of(table, filters, approach, k=k)
            named = composed.as_string(None)
            if len(self._texts) >= MOST_TEXTS:
                self._texts.clear()
            kept = self._texts[key] = Text(named, *roundtrip.positional(named))
        return kept
