"""The search request: one frozen object, checked when it is made and passed whole from there down to the SQL.

Guarantees that its options are compatible and in range, whether they come from the library, a command, a form or a JSON
body. Whether a vector fits the table and whether a cursor belongs to the search are checked later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from everindex.articles.declared import ARTICLES
from everindex.articles.model import (
    DEFAULT_MODE,
    MAX_K,
    MAX_QUERY_CHARS,
    MODES,
    VISIBLE,
    AnswerMode,
    CutAfter,
    Filters,
    Sort,
)
from everindex.articles.search.filters import NAMES, NO_FILTERS, NOTHING, AnyFilters, Bound, ParentFilters, bind, values
from everindex.articles.search.filters.conditions import Condition, parse_condition
from everindex.articles.search.filters.facets import check_facets
from everindex.articles.search.request import options
from everindex.articles.search.request.cursor import (
    Cursor,
    Grouped,
    Part,
    after_nearest,
    digest_of,
    read_cursor,
    seen_digest,
    with_groups,
    write_cursor,
)
from everindex.articles.search.request.options import NEAR_DUPLICATE_DISTANCE
from everindex.articles.search.request.parsed_query import ParsedQuery, parse
from everindex.articles.shape.hit import Hit
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable
from everindex.errors import ColumnMismatch, FilterInvalid, NotMigrated, QueryInapplicable, QueryInvalid
from everindex.index.spec import MAX_EF_SEARCH

#: A query vector whose sum of squares lies between these two goes to pgvector unchanged.
_SQUARES = (1e-6, 1e12)
_FLOAT32 = np.dtype(np.float32)
_NOTHING_SEEN: frozenset[bytes] = frozenset()


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchRequest:
    """What to search for, and with which options. Raises QueryInvalid for a request that cannot be answered.

    A semantic search has a text, a vector or a row's `key`, or none of these where the vectors are passed beside the
    request, as in `search_many`. The class has no slots because of its cached properties.
    """

    mode: AnswerMode = DEFAULT_MODE
    text: str | None = None
    """Without surrounding space."""

    vector: np.ndarray | None = None
    """As the caller passed it; `checked_vector` checks it against the table."""

    key: str | None = None
    """As text, the key of the row whose neighbours are wanted; the row is excluded from the answer."""

    k: int = 10
    filters: AnyFilters = NO_FILTERS
    ef_search: int | None = None
    exact: bool = False
    after: str | None = None
    """The `next_cursor` of the previous page."""

    min_similarity: float | None = None
    """Only articles with at least this similarity, −1 to 1; the answer may then have fewer than k."""

    diversity: float | None = None
    """0 to 1: the weight of variety against similarity to the query. Never 0, which becomes None."""

    rerank: int | None = None
    """How many candidates a cross-encoder re-ranks, 0 for none; None for what the settings say."""

    without_near_duplicates: bool = False
    near_duplicate_distance: float = NEAR_DUPLICATE_DISTANCE

    group_duplicates: bool = False
    """Whether each hit carries its near-duplicates, instead of leaving them k's places."""

    sort: Sort = "relevance"
    """newest: the matches by date and not by relevance, see search/by_date.py."""

    facets: tuple[str, ...] = ()
    """Columns and JSON members whose values are counted over the result, named as in a filter."""

    is_filtered: bool = field(init=False)
    _bound: tuple[CollectionTable | None, Bound] = field(init=False, repr=False)
    """The filters as statement parameters, and the table whose columns they were typed by: None where they need none."""

    def __post_init__(self) -> None:
        check_numbers(self.k, self.ef_search)
        if self.mode not in MODES and (self.mode != "browse" or self.text is not None):
            raise options.no_such_mode(self.mode)
        if self.min_similarity is not None:
            options.check_similarity(self.min_similarity, mode=self.mode)
        if self.diversity is not None:
            options.check_diversity(self.diversity, mode=self.mode, after=self.after)
            if self.diversity == 0:
                object.__setattr__(self, "diversity", None)
        if self.facets:
            object.__setattr__(self, "facets", check_facets(self.facets))
        if self.rerank:
            options.check_rerank(self.rerank, text=self.text, diversity=self.diversity, after=self.after)
        if self.key is not None or self.group_duplicates:
            options.check_threshold(self.near_duplicate_distance)
        if self.sort != "relevance":
            options.check_sort(
                self.sort,
                has_other_order=self.diversity is not None or bool(self.rerank),
                is_similar=self.key is not None or self.without_near_duplicates,
            )
        if self.without_near_duplicates:
            options.refuse_after(
                self.after,
                "leaving out near-duplicates",
                why="a page does not know the articles of the previous pages.",
            )
        if self.text is not None or self.mode in ("keyword", "hybrid"):
            object.__setattr__(self, "text", check_query(self.text or ""))
        is_filtered = self.filters is not NO_FILTERS and not self.filters.is_empty
        object.__setattr__(self, "is_filtered", is_filtered)
        bound = NOTHING
        if is_filtered and isinstance(self.filters, Filters):
            given = values(self.filters)
            bound = Bound(tuple(given), given)
        object.__setattr__(self, "_bound", (None, bound))

    def bound(self, table: CollectionTable) -> Bound:
        """The statement parameters for `filters`, and the shape of their condition. Raises FilterInvalid where a condition
        does not fit the table."""
        filters, (known, bound) = self.filters, self._bound
        if isinstance(filters, Filters) or known is table:
            return bound
        bound = bind(table, filters)
        object.__setattr__(self, "_bound", (table, bound))
        return bound

    @property
    def is_embedded(self) -> bool:
        """Whether the search needs a vector that a model makes from its text."""
        return self.text is not None and self.mode in ("semantic", "hybrid")

    @cached_property
    def words(self) -> ParsedQuery:
        """The text as keyword search reads it."""
        return parse(self.text or "")

    def is_similar(self, hit: Hit) -> bool:
        """Whether an article has the minimum similarity; always true where none is set."""
        least = self.min_similarity
        return least is None or (hit.similarity is not None and hit.similarity >= least)

    def read_cursor(self, mode: AnswerMode, *parts: Part) -> Cursor | None:
        """The position after which this page begins; None for the first page. A cursor belongs to a search in `mode`
        for `parts`, with the same filters and the same minimum similarity. Raises CursorRefused for the cursor of
        another search."""
        return read_cursor(self.after, search_digest=self._digest(mode, parts)) if self.after else None

    def write_cursor(self, cursor: Cursor, mode: AnswerMode, *parts: Part) -> str:
        """The position after which the next page begins, as text."""
        return write_cursor(cursor, search_digest=self._digest(mode, parts))

    @property
    def digest(self) -> bytes:
        """Of the search itself, whatever its page and the size of it."""
        return self._digest(self.mode, ("whole", self.text, self.vector, self.key, *self._options))

    @property
    def _options(self) -> tuple[Part, ...]:
        """The options beside the filters that make it another search."""
        return (self.sort, self.near_duplicate_distance if self.group_duplicates else None)

    def _digest(self, mode: AnswerMode, parts: Sequence[Part]) -> bytes:
        filters = self.filters.filters if isinstance(self.filters, ParentFilters) else self.filters
        if isinstance(filters, Condition):
            return digest_of((mode, *parts, filters.digest, self.min_similarity))
        narrowed = (filters.category, filters.topic, filters.news_source, filters.since, filters.until)
        return digest_of((mode, *parts, *(value or None for value in narrowed), self.min_similarity))


@dataclass(slots=True, kw_only=True)
class Page:
    """The part of a request's answer that one search finds: its k best articles, or the k after a position.

    Not frozen, like Hit. Its k is larger than the request's where more candidates are needed than are returned.
    """

    request: SearchRequest
    k: int
    after: Cursor | None = None
    parts: tuple[Part, ...] | None = None
    """What the cursor of the next page belongs to; None where no cursor is wanted."""

    @property
    def seen(self) -> frozenset[bytes]:
        """Digests of articles that previous pages have shown and that this search may find again."""
        return _NOTHING_SEEN if self.after is None else self.after.seen

    @property
    def rows(self) -> int:
        """How many rows to request from the server so that k remain."""
        rows = self.k if self.request.key is None else self.k + 1
        return rows if self.after is None or not self.after.seen else rows + rounded(len(self.after.seen))

    @property
    def place(self) -> dict[str, str]:
        """The parameters of a statement that continues after a position."""
        if self.after is None:
            return {}
        return {"after_distance": repr(self.after.distance), "after_uri": self.after.uri}

    def cursor_after(self, hits: Sequence[Hit], *, is_exact: bool) -> CutAfter | None:
        """Writes the cursor after the first n of `hits`, the nearest; None where no cursor is wanted."""
        parts = self.parts
        if parts is None:
            return None

        def cursor_after(count: int, grouped: Grouped | None) -> str:
            cursor = after_nearest(hits[:count], before=self.after, is_complete=is_exact)
            cursor = with_groups(cursor, grouped, count=count, before=self.after)
            return self.request.write_cursor(cursor, "semantic", *parts)

        return cursor_after

    def usable(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows (key first, distance last) without those that the server returns but that do not belong in the
        answer."""
        without = self.request.key
        # A zero vector (stored by hand) has no cosine distance: no index contains it, and no answer does either.
        found = [row for row in rows if row[-1] == row[-1] and (without is None or str(row[0]) != without)]
        if self.after is None or not self.after.seen:
            return found
        return [row for row in found if seen_digest(row[0]) not in self.after.seen]


def rounded(count: int) -> int:
    """`count` rounded up to one of 1, 2, 3, 4, 6, 8, 12, 16, 24 …, so that only a few statements and settings are
    prepared."""
    power = 1 << max(count - 1, 0).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 and power >= 4 else power


def choose_mode(mode: str | None, *, text: str | None, vector: np.ndarray | None, filters: AnyFilters) -> AnswerMode:
    """The mode of a search from a form, a JSON body or a command: `mode` where it is set, semantic for a vector, and
    browse (the newest articles) for filters alone. Raises QueryInvalid."""
    chosen = None if mode is None else options.mode_of(mode)
    if vector is not None:
        if chosen not in (None, "semantic"):
            raise QueryInapplicable(
                f"a vector cannot be searched in mode {chosen}.", why="a vector has a meaning but no words.",
                next_step="leave the mode out, or send a text.",
            )  # fmt: skip
        return "semantic"
    if text is None and not filters.is_empty:
        return "browse"
    return chosen or DEFAULT_MODE


def as_filters(filters: AnyFilters | Mapping[str, Any] | None, collection: CollectionSpec | None = None) -> AnyFilters:
    """The filters that a caller passes, in either form or as a mapping of the filter language.

    `collection`: where it is another one than the articles, whose five filters mean nothing there. A mapping that names
    only those, each with a text, is the same as Filters. Raises FilterInvalid.
    """
    if filters is None:
        return NO_FILTERS
    if isinstance(filters, (Filters, Condition)):
        return filters
    if not isinstance(filters, Mapping):
        raise FilterInvalid(
            f"filters cannot be a {type(filters).__name__}.",
            why="they are a mapping of columns, or an object of class Filters.",
            next_step='pass  filters={"category": "Security"}.',
        )
    if collection is None or collection.is_flat:
        if all(name in NAMES and (value is None or isinstance(value, str)) for name, value in filters.items()):
            return Filters(**filters)
        filters = {
            name: value for name, value in filters.items() if name not in NAMES or (value is not None and value != "")
        }  # a named filter without a value passes all, as in Filters
    return parse_condition(filters) or NO_FILTERS


def check_query(text: str) -> str:
    """A search text without surrounding space. Raises QueryInvalid for one that is too long or has no visible
    character."""
    cleaned = text.replace("\0", " ").strip()
    if not VISIBLE.search(cleaned):
        raise QueryInvalid(
            "the search text is empty.",
            why="there is nothing to search for.",
            next_step="enter some words, or choose a filter: filters alone list the newest articles.",
        )
    if len(text) > MAX_QUERY_CHARS:
        raise QueryInvalid(
            f"the search text has {len(text)} characters.",
            why=f"the limit is {MAX_QUERY_CHARS}; a longer text has no single meaning to search for.",
            next_step="search with its title or its main sentence.",
        )
    return cleaned


def checked_vector(vector: np.ndarray | None, table: CollectionTable) -> np.ndarray:
    """`vector` as (dim,) float32 that pgvector can compare. Raises QueryInvalid, NotMigrated."""
    width = require_width(table)
    column = f"{table.spec.table}.{table.spec.vector}"
    if type(vector) is np.ndarray and vector.dtype == _FLOAT32 and vector.shape == (width,):
        squares = float(np.vdot(vector, vector))  # np.dot would warn where they are too large
        if _SQUARES[0] < squares < _SQUARES[1]:
            return vector
    try:
        array = np.asarray(vector)
        if array.dtype.kind not in "fiu":
            raise ValueError
    except ValueError:
        raise QueryInvalid(
            "the query vector does not hold numbers.",
            why=f"{column} is {table.vector_type}({width}).",
            next_step=f"pass {width} numbers, made by the model that made the stored vectors.",
        ) from None
    if array.shape != (width,):
        raise QueryInapplicable(
            f"the query vector has shape {array.shape}.",
            why=f"{column} is {table.vector_type}({width}).",
            next_step=f"pass {width} numbers, made by the model that made the stored vectors.",
        )
    # pgvector adds up the squares in float32: for very small or large numbers the sum is 0 or infinity, and every
    # distance NaN. Only the direction matters, so such a vector is scaled to length 1.
    wide = array.astype(np.float64)
    largest = float(np.abs(wide).max())
    if table.spec.metric != "cosine" and np.isfinite(wide).all():
        return wide.astype(np.float32)  # lengths count, and zero has a distance
    if not np.isfinite(wide).all() or largest == 0:
        raise QueryInapplicable(
            "the query vector has no direction.",
            why="it is all zeros, or contains NaN or infinity, so no cosine distance to it exists.",
            next_step="pass a finite vector that is not zero.",
        )
    wide /= largest
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def require_width(table: CollectionTable) -> int:
    """The width of the table's vectors. Raises NotMigrated where the column has none yet."""
    if table.dimensions is None and table.spec is not ARTICLES:
        raise ColumnMismatch(
            f"column {table.spec.table}.{table.spec.vector} has no width.",
            why="vectors of different widths cannot be compared, and pgvector indexes only columns with a width.",
            next_step=f"ALTER TABLE {table.spec.table} ALTER COLUMN {table.spec.vector} TYPE {table.vector_type}(N)  "
            f"with the "
            "width of your model.",
        )
    if table.dimensions is None:
        raise NotMigrated(
            "articles.embedding is missing or has no width.",
            why="revision 8eadb2079747 adds it as vector(1536) and has not been applied here.",
            next_step="run  everindex migrate.",
        )
    return table.dimensions


def check_numbers(k: int, ef_search: int | None) -> None:
    """Raises QueryInvalid for a k or ef_search out of range."""
    if not 1 <= k <= MAX_K:
        raise QueryInvalid(
            f"k = {k} cannot be answered.",
            why=f"k is the number of articles to return, 1 to {MAX_K}.",
            next_step="request fewer, and narrow the search with filters." if k > MAX_K else "request at least one.",
        )
    if ef_search is not None and not 1 <= ef_search <= MAX_EF_SEARCH:
        raise QueryInvalid(
            f"ef_search = {ef_search} cannot be used.",
            why=f"pgvector takes 1 to {MAX_EF_SEARCH}.",
            next_step="leave it out: it then follows k.",
        )
