"""The conversion of a program's values to articles: an Article, a dict, or another dataclass with its fields.

The checks are those of an import: PostgreSQL accepts what passes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from everindex.articles.importers.row import READERS, RefusedError, read_text
from everindex.articles.model import ARTICLE_FIELDS, Article
from everindex.errors import QueryInvalid

_FIELDS = ARTICLE_FIELDS


def as_articles(items: Iterable[Article | Mapping[str, Any] | object]) -> list[Article]:
    """`items` as articles. Raises QueryInvalid for the first that cannot be stored, with its position."""
    return [_as_article(item, number) for number, item in enumerate(items)]


def _as_article(item: object, number: int) -> Article:
    values = _values(item)
    if values is None:
        raise _refused(number, None, f"it is neither an Article nor a dict or dataclass, but {type(item).__name__}")
    uri = values.get("uri")
    if unknown := set(values) - set(_FIELDS):
        raise _refused(number, uri, f"unknown fields: {', '.join(sorted(map(str, unknown)))}")
    if not uri or (isinstance(uri, str) and not uri.strip()):
        raise _refused(number, None, "it has no uri")
    try:
        return Article(**{name: _checked(name, value) for name, value in values.items() if value is not None})
    except RefusedError as refused:
        raise _refused(number, uri, str(refused)) from None


def _values(item: object) -> Mapping[str, Any] | None:
    if isinstance(item, Mapping):
        return item
    if is_dataclass(item) and not isinstance(item, type):
        return {
            f.name: getattr(item, f.name) for f in fields(item) if not (f.name == "entry" and isinstance(item, Article))
        }
    return None


def _checked(name: str, value: Any) -> Any:
    """The value in the field's own type. Text keeps its spaces: a program's values are taken literally."""
    if name == "tags" and isinstance(value, list | tuple):
        return tuple(_checked("tag", tag) for tag in value)
    read = READERS.get(name, read_text)(name, value)
    return value if read_text is READERS.get(name, read_text) and isinstance(value, str) else read


def _refused(number: int, uri: object, why: str) -> QueryInvalid:
    which = f" ({str(uri)[:200]!r})" if uri else ""
    return QueryInvalid(
        f"article {number + 1} cannot be stored{which}.",
        why=f"{why}.",
        next_step="give each article a uri and the fields of everindex.Article; nothing was stored.",
    )
