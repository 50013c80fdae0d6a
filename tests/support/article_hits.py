"""Hits of articles as a search gives them, for tests of what is done with hits."""

from __future__ import annotations

from everindex.articles.declared import ARTICLES
from everindex.articles.shape.hit import Hit


def article_hit(uri: str, distance: float | None = None, **columns: str | None) -> Hit:
    """The hit of an article of which no other columns are known."""
    values = {name: columns.get(name) for name in ARTICLES.columns.names} | {"uri": uri}
    return Hit(ARTICLES.columns, uri, tuple(values.values()), distance)
