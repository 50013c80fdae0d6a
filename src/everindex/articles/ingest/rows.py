"""Rows as they are written to a collection: each column as PostgreSQL's text, and the texts that a vector is made of."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from everindex.articles.embedding.text_forms import OWN_FORM, text_of
from everindex.articles.model import Article, RowProblem
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable
from everindex.errors import CollectionInvalid

_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
#: The text columns of one row, in the order of the collection.
Texts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row to write. A column that is absent, or None, keeps the stored value."""

    key: str
    values: Mapping[str, str | None]
    """Column → text as PostgreSQL reads the column's type; the key among them."""

    raw_text: str | None = field(default=None, repr=False)
    """The full text of an article; goes into `raw_articles`."""

    expires_at: str | None = None
    """Of an article, as `Article.expires_at`; goes into `everindex_meta.article_expiry`."""

    def texts(self, spec: CollectionSpec) -> Texts:
        """What the row says of the text columns."""
        return tuple(self.values.get(column) for column in spec.text)


def text_to_embed(texts: Texts) -> str:
    """The texts of a row as the one that is embedded: a title, then the others."""
    if len(texts) < 2:
        return (texts[0] or "").strip() if texts else ""
    return text_of(OWN_FORM, texts[0], "\n\n".join(text for text in texts[1:] if text))


def article_rows(table: CollectionTable, articles: Iterable[Article]) -> list[Row]:
    """Articles as rows of the columns that this table has."""
    columns = table.writable_columns
    return [
        Row(
            key=article.uri,
            values={column: _article_text(getattr(article, column)) for column in columns},
            raw_text=article.raw_text,
            expires_at=article.expires_at,
        )
        for article in articles
    ]


def row_or_problem(
    table: CollectionTable, item: tuple[int, Mapping[str, Any]] | RowProblem, source: str
) -> Row | RowProblem:
    """A row of a source, (line, object), as it is written; or why it cannot be."""
    if isinstance(item, RowProblem):
        return item
    line, values = item
    try:
        return _collection_row(table, values, line - 1)
    except CollectionInvalid as refused:
        key = values.get(table.spec.key)
        return RowProblem(
            source=source, line=line, reason=refused.why.rstrip("."), uri=None if key is None else str(key)
        )


def collection_rows(table: CollectionTable, items: Iterable[Mapping[str, Any]]) -> list[Row]:
    """A program's rows, each a mapping with the key and any of the collection's columns. Where the collection is everindex's
    own and has a JSON column `metadata`, other names go into that. Raises CollectionInvalid for the first that cannot be
    stored, with its position."""
    return [_collection_row(table, item, number) for number, item in enumerate(items)]


def last_of_each(rows: Sequence[Row]) -> list[Row]:
    """The rows with each key once; the last one wins."""
    return list({row.key: row for row in rows}.values())


def as_sql_text(value: Any, kind: str) -> str | None:
    """A Python value as text that PostgreSQL reads as type `kind`. Raises ValueError or TypeError where there is none."""
    if value is None:
        return None
    if kind in ("json", "jsonb"):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if _ESCAPED_NUL.search(text):
            raise ValueError("PostgreSQL stores no NUL")
        return _without_nul(text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if kind.endswith("[]") and isinstance(value, list | tuple | set | frozenset):
        return "{" + ",".join(_element(as_sql_text(each, kind[:-2])) for each in value) + "}"
    if isinstance(value, list | tuple | set | frozenset | Mapping):
        raise TypeError(f"{type(value).__name__} does not fit type {kind}")
    return _without_nul(str(value))


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("PostgreSQL stores no NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not Unicode text") from None
    return text


def _collection_row(table: CollectionTable, item: Mapping[str, Any], number: int) -> Row:
    spec = table.spec
    if not isinstance(item, Mapping):
        raise _refused(spec, number, None, f"it is not a mapping, but {type(item).__name__}")
    given = dict(item)
    key = given.get(spec.key)
    if key is None or (isinstance(key, str) and not key):
        raise _refused(spec, number, None, f"it has no {spec.key}")
    unknown = [name for name in given if name not in spec.columns.names]
    if unknown:
        if spec.rest is None:
            names = ", ".join(sorted(map(str, unknown))[:5])
            raise _refused(spec, number, key, f"the collection has no column {names}")
        rest = given.get(spec.rest) or {}
        if not isinstance(rest, Mapping):
            raise _refused(spec, number, key, f"{spec.rest} is not a mapping")
        given[spec.rest] = {**rest, **{str(name): given.pop(name) for name in unknown}}
    values: dict[str, str | None] = {}
    for name, value in given.items():
        try:
            values[name] = as_sql_text(value, table.columns[name])
        except (ValueError, TypeError) as exc:
            raise _refused(spec, number, key, f"{name}: {exc}") from None
    return Row(key=values[spec.key] or "", values=values)


def _refused(spec: CollectionSpec, number: int, key: object, why: str) -> CollectionInvalid:
    which = f" ({str(key)[:200]!r})" if key else ""
    return CollectionInvalid(
        f"row {number + 1} cannot be stored in collection {spec.name!r}{which}.",
        why=f"{why}.",
        next_step=f"give each row {spec.key} and any of {', '.join(spec.columns.names[1:])}; nothing was stored.",
    )


def _article_text(value: Any) -> str | None:
    match value:
        case None:
            return None
        case tuple():
            return json.dumps(list(value), ensure_ascii=False)
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
