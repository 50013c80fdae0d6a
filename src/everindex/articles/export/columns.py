"""The columns of an export: those of the collection, then what the search says of each hit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pydantic_core import to_jsonable_python

from everindex.articles.shape.hit import Hit
from everindex.articles.table import CollectionTable

#: What the search says of a hit: PostgreSQL's name of the type, and where it is.
OF_SEARCH: dict[str, tuple[str, Callable[[Hit], Any]]] = {
    "distance": ("double precision", attrgetter("distance")),
    "similarity": ("double precision", attrgetter("similarity")),
    "score": ("double precision", attrgetter("score")),
    "semantic_rank": ("integer", attrgetter("semantic_rank")),
    "keyword_rank": ("integer", attrgetter("keyword_rank")),
    "rerank_score": ("double precision", attrgetter("rerank_score")),
}
#: The same of the passage that answers best, where the table has whole texts.
OF_PASSAGE: dict[str, tuple[str, Callable[[Hit], Any]]] = {
    "passage": ("text", lambda hit: None if hit.passage is None else hit.passage.text),
    "passage_start": ("integer", lambda hit: None if hit.passage is None else hit.passage.start),
    "passage_end": ("integer", lambda hit: None if hit.passage is None else hit.passage.end),
}


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """One column of an export."""

    name: str
    kind: str
    """The type of its values, as PostgreSQL writes it."""

    read: Callable[[Hit], Any]


def export_columns(table: CollectionTable) -> tuple[ExportColumn, ...]:
    """The columns of a hit in their order, then those of the search; where the collection has one of those names
    itself, the search's has `search_` before it."""
    names = table.spec.columns.names
    of_search = OF_SEARCH | (OF_PASSAGE if table.has_passages else {})
    kinds = [table.columns[name] for name in names]
    if not table.has_plain_key:
        kinds[0] = "text"
    if table.date_at is not None:
        kinds[table.date_at] = "text"
    own = [ExportColumn(name, kind, _value(at)) for at, (name, kind) in enumerate(zip(names, kinds, strict=True))]
    return (
        *own,
        *(
            ExportColumn(f"search_{name}" if name in names else name, kind, read)
            for name, (kind, read) in of_search.items()
        ),
    )


def as_text(value: Any) -> str:
    """A value of any type as text: a list or an object as JSON, everything else as JSON would write it, without quotes."""
    if isinstance(value, str):
        return value
    plain = to_jsonable_python(value, fallback=str)
    return (
        plain
        if isinstance(plain, str)
        else json.dumps(plain, ensure_ascii=False)
        if isinstance(plain, Mapping | list | bool)
        else str(plain)
    )


def _value(at: int) -> Callable[[Hit], Any]:
    return lambda hit: hit.values[at]
