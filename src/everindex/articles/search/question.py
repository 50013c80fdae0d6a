"""Can this be asked? The vector, k and ef_search of a search, checked before any statement runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everindex.articles.model import MAX_K, Filters
from everindex.articles.search.cursor import Cursor, seen_digest
from everindex.articles.search.strategy import rounded
from everindex.articles.table import ArticleTable
from everindex.errors import NotMigrated, QueryInapplicable, QueryInvalid
from everindex.index.catalog.tuned import MAX_EF_SEARCH

#: Between these sums of squares a query vector goes to pgvector as it is.
_SQUARES = (1e-6, 1e12)
_FLOAT32 = np.dtype(np.float32)

Row = tuple[Any, ...]


@dataclass(slots=True, kw_only=True)
class Wanted:
    """A search by meaning as it was asked, and can be answered. Not frozen, as Hit."""

    vector: np.ndarray
    k: int
    filters: Filters
    ef_search: int | None
    exact: bool
    without_uri: str | None
    after: Cursor | None

    @property
    def rows(self) -> int:
        """How many to ask the server for, so that k are left."""
        rows = self.k if self.without_uri is None else self.k + 1
        return rows if self.after is None or not self.after.seen else rows + rounded(len(self.after.seen))

    @property
    def place(self) -> dict[str, str]:
        """The parameters of a statement that continues."""
        if self.after is None:
            return {}
        return {"after_distance": repr(self.after.distance), "after_uri": self.after.uri}

    def usable(self, rows: Sequence[Row]) -> list[Row]:
        """The rows (uri first, distance last) but for those that are no answer, though the server gives them."""
        # A zero vector (put there by hand) has no cosine distance: it is in no index, and no answer either.
        found = [row for row in rows if row[-1] == row[-1] and row[0] != self.without_uri]
        if self.after is None or not self.after.seen:
            return found
        return [row for row in found if seen_digest(row[0]) not in self.after.seen]


def checked(
    table: ArticleTable,
    vector: np.ndarray,
    *,
    k: int,
    filters: Filters | None,
    ef_search: int | None,
    exact: bool,
    without_uri: str | None = None,
    after: Cursor | None = None,
) -> Wanted:
    """The search, if it can be answered. Raises QueryInvalid, NotMigrated."""
    asked = checked_vector(vector, table)
    check_numbers(k, ef_search)
    return Wanted(
        vector=asked,
        k=k,
        filters=filters or Filters(),
        ef_search=ef_search,
        exact=exact,
        without_uri=without_uri,
        after=after,
    )


def checked_vector(vector: np.ndarray, table: ArticleTable) -> np.ndarray:
    """`vector` as (dim,) float32 that pgvector can compare. Raises QueryInvalid, NotMigrated."""
    width = require_width(table)
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
            why=f"articles.embedding is vector({width}).",
            next_step=f"pass {width} numbers, made by the model that made the articles' vectors.",
        ) from None
    if array.shape != (width,):
        raise QueryInapplicable(
            f"the query vector has shape {array.shape}.",
            why=f"articles.embedding is vector({width}).",
            next_step=f"pass {width} numbers, made by the model that made the articles' vectors.",
        )
    # pgvector adds up the squares in float32: of very small or large numbers they are 0 or infinity, and every
    # distance NaN. The direction is all that counts, so such a vector is brought to length 1.
    wide = array.astype(np.float64)
    largest = float(np.abs(wide).max())
    if not np.isfinite(wide).all() or largest == 0:
        raise QueryInapplicable(
            "the query vector has no direction.",
            why="it is all zeros, or holds NaN or infinity, so that no cosine distance to it exists.",
            next_step="pass a finite vector that is not zero.",
        )
    wide /= largest
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def require_width(table: ArticleTable) -> int:
    """The width of the table's vectors. Raises NotMigrated where it has none yet."""
    if table.dimensions is None:
        raise NotMigrated(
            "articles.embedding is missing or has no width.",
            why="revision 8eadb2079747 adds it as vector(1536), and has not been applied here.",
            next_step="run  everindex migrate.",
        )
    return table.dimensions


def check_numbers(k: int, ef_search: int | None) -> None:
    """Raises QueryInvalid for a k or ef_search out of range."""
    if not 1 <= k <= MAX_K:
        raise QueryInvalid(
            f"k = {k} cannot be answered.",
            why=f"k is the number of articles to return, 1 to {MAX_K}.",
            next_step="ask for fewer, and narrow the rest with filters." if k > MAX_K else "ask for at least one.",
        )
    if ef_search is not None and not 1 <= ef_search <= MAX_EF_SEARCH:
        raise QueryInvalid(
            f"ef_search = {ef_search} cannot be used.",
            why=f"pgvector takes 1 to {MAX_EF_SEARCH}.",
            next_step="leave it out: it then follows k.",
        )
