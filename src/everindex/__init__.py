"""everindex: article search on PostgreSQL and pgvector whose vector index checks and repairs itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Answer", "Article", "AsyncCollection", "AsyncInstance", "EverindexError", "Filters", "Hit", "Instance", "__version__",
    "connect", "connect_async",
]  # fmt: skip

_HOMES = {
    "Answer": ("everindex.articles.model", "Answer"),
    "Article": ("everindex.articles.model", "Article"),
    "AsyncCollection": ("everindex.articles.async_instance", "AsyncCollection"),
    "AsyncInstance": ("everindex.articles.async_instance", "AsyncInstance"),
    "EverindexError": ("everindex.errors", "EverindexError"),
    "Filters": ("everindex.articles.model", "Filters"),
    "Hit": ("everindex.articles.shape.hit", "Hit"),
    "Instance": ("everindex.articles.instance", "Instance"),
    "connect": ("everindex.articles.connect", "connect_instance"),
    "connect_async": ("everindex.articles.connect_async", "connect_async"),
}

if TYPE_CHECKING:
    from everindex.articles.async_instance import AsyncCollection, AsyncInstance
    from everindex.articles.connect import connect_instance as connect
    from everindex.articles.connect_async import connect_async
    from everindex.articles.instance import Instance
    from everindex.articles.model import Answer, Article, Filters
    from everindex.articles.shape.hit import Hit
    from everindex.errors import EverindexError


def __getattr__(name: str) -> Any:
    # Loaded on first use: `alembic current` must not pay for numpy and the search.
    if name in _HOMES:
        from importlib import import_module

        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
