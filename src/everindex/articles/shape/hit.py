"""A hit: one row that a search found, with the columns that its collection shows, and how far it is from the query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from everindex.articles.shape.passage import Passage
from everindex.articles.shape.spec import Columns


@dataclass(slots=True, eq=False)
class Hit:
    """One hit of a search. Each column of the collection is an attribute (`hit.category`) and an item (`hit["category"]`).
    Treat it as read-only.

    Neither frozen nor keyword-only: a search makes ten, and setting each field through a call, or by name, took a quarter
    of its Python time.
    """

    columns: Columns
    key: Any
    """What identifies the row: the value of the key column; of a type that Python writes otherwise than PostgreSQL, its text."""

    values: tuple[Any, ...]
    """In the order of `columns`: the key, the texts, the metadata."""

    distance: float | None
    """pgvector's distance: of articles the cosine distance `<=>`, 0 (same direction) to 2 (opposite). None without a vector to
    compare: the row has none, or the search was by keyword alone."""

    title_snippet: str | None = None
    snippet: str | None = None
    """Title, and the part of the text that answers, as safe HTML: everything is escaped, the query's words are in <mark>. None
    in a search by meaning alone."""

    semantic_rank: int | None = None
    keyword_rank: int | None = None
    """Its rank in the search by meaning and in the one by keyword, from 1; None where that search did not find it, or did
    not run (a search by meaning alone has no ranks: its order is the distance)."""

    score: float | None = None
    """What orders the hits of a hybrid search (its evidence, see search/hybrid.py) or of a keyword search (BM25); higher
    is better. None where distance orders the hits."""

    rerank_score: float | None = None
    """Of a re-ranked answer: what the cross-encoder says of this row, higher is better; None for the others."""

    passage: Passage | None = None
    """The part of the row's whole text that answers best; None where that text has no part in the answer."""

    expiry: str | None = None
    """Of an article: from when on no search finds it, ISO-8601 in UTC; None for one that stays. A row of another collection has
    it among its columns."""

    duplicates: tuple[Hit, ...] = ()
    """Of an answer with near-duplicates grouped: the hits after this one that nearly repeat it."""

    def __getattr__(self, name: str) -> Any:
        columns = object.__getattribute__(self, "columns")
        try:
            at = columns.names.index(name)
        except ValueError:
            raise AttributeError(f"a hit of this collection has no column {name!r}") from None
        return object.__getattribute__(self, "values")[at]

    def __getitem__(self, column: str) -> Any:
        try:
            return self.values[self.columns.names.index(column)]
        except ValueError:
            raise KeyError(column) from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hit):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __hash__(self) -> int:
        return hash((str(self.key), self.distance))

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The text columns."""
        return self.values[1 : 1 + self.columns.texts]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The other columns."""
        return {name: self.values[at] for at, name in self.columns.metadata}

    @property
    def similarity(self) -> float | None:
        """Cosine similarity, 1 − distance, 1 to −1; of inner products the product. None without a distance, and for the
        Euclidean one, which has no similarity."""
        return None if self.distance is None else similarity_of(self.columns.metric, self.distance)

    def as_dict(self) -> dict[str, Any]:
        """The hit as `--json` and the API give it: an article's columns beside the rest, those of another collection as
        `fields`, since its names are somebody else's."""
        columns = dict(zip(self.columns.names, self.values, strict=True))
        shown = columns if self.columns.is_flat else {"key": self.key, "fields": columns}
        if self.expiry is not None:
            shown = shown | {"expires_at": self.expiry}
        if self.duplicates:
            shown = shown | {"duplicates": [hit.as_dict() for hit in self.duplicates]}
        return shown | {
            "distance": self.distance,
            "similarity": self.similarity,
            "title_snippet": self.title_snippet,
            "snippet": self.snippet,
            "semantic_rank": self.semantic_rank,
            "keyword_rank": self.keyword_rank,
            "score": self.score,
            "rerank_score": self.rerank_score,
            "passage": None if self.passage is None else self.passage.as_dict(),
        }


def similarity_of(metric: str, distance: float) -> float | None:
    """The similarity that a distance stands for; None where the metric has none."""
    match metric:
        case "cosine":
            return 1.0 - distance
        case "inner_product":
            return -distance
        case _:
            return None


def with_text_date(row: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    """The row with the text of its date."""
    return row if row[at] is None else (*row[:at], str(row[at]), *row[at + 1 :])


_FIELDS = (
    "columns", "key", "values", "distance", "title_snippet", "snippet", "semantic_rank", "keyword_rank", "score",
    "rerank_score", "passage", "expiry", "duplicates",
)  # fmt: skip
