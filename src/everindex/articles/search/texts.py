"""Which text does a statement have? Composed once for each shape, so that it is prepared once on each connection."""

from __future__ import annotations

from typing import Any

from everindex.articles.model import Filters
from everindex.articles.search import statement
from everindex.articles.search.condition import values
from everindex.articles.search.strategy import Approach
from everindex.articles.table import ArticleTable
from everindex.pg import roundtrip


class Texts:
    """The statements of one state of table and index."""

    def __init__(self) -> None:
        self._texts: dict[tuple[Any, ...], str] = {}
        self._positionals: dict[str, tuple[str, tuple[str, ...]]] = {}

    def of(self, table: ArticleTable, filters: Filters, approach: Approach, k: int) -> tuple[str, dict[str, Any]]:
        """The text with psycopg's named placeholders, and the parameters of the filters."""
        given = values(filters)
        # Strategies of other settings or another order must not share a text: a prepared statement keeps its plan.
        key = (approach.strategy, k, approach.fetch, approach.candidates, approach.continues, *given)
        kept = self._texts.get(key)
        if kept is None:
            composed, _ = statement.of(table, filters, approach, k=k)
            kept = self._texts[key] = composed.as_string(None)
        return kept, given

    def positional(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The same with libpq's `$1 …`, and the names in that order."""
        kept = self._positionals.get(text)
        if kept is None:
            kept = self._positionals[text] = roundtrip.positional(text)
        return kept
