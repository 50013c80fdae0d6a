"""The best matches of a query by BM25, from words in memory or from the matches' own texts; and their rows.

Both ways match by the same statement of PostgreSQL and rank by the same formula. From memory, ranking a match takes a
fraction of a microsecond; by reading, 0.1 ms, so at most so many are ranked.

A query of plain words that no row has all of is answered by the rows that have some. A word that many rows have cannot
lift a row above those that have the rare ones, so the rarest words are matched first, and the others only where the result
could change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.articles.search.keyword import bm25
from everindex.articles.search.keyword.postings import PLACE, Postings, place_text, places_of
from everindex.articles.search.keyword.row_words import RowWords
from everindex.articles.search.keyword.statements import (
    Known,
    Row,
    first_by_key,
    matching_places,
    rows_at_places,
    rows_with_keys,
    stems_of_items,
    words_of_matches,
)
from everindex.articles.search.parsed_query import ParsedQuery, words_of
from everindex.articles.search.request import SearchRequest
from everindex.pg import waiting
from everindex.pg.connections import Connection

#: From memory, this many matches are ranked; finding them takes some 0.6 µs each (docs/measurements/words.md).
MOST_REMEMBERED = 100_000
#: Of rows that have some of the words, this many are ranked at first: from memory, and by reading.
FEW_REMEMBERED, FEW_READ = 3_000, 300
#: Rows of equal score are ordered by key. Where more than this many compete for the last places, the server orders them.
MOST_TIED = 200

#: Scoring more than this many matches takes milliseconds.
MANY = 20_000

_ITEM_STEM = np.dtype([("number", ">i4"), ("hash", ">u4")])
_COUNTED = np.dtype([("hash", ">u4"), ("times", ">i4")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best matches."""

    marks: list[Any]
    """What identifies each row: place and transaction (bytes), or its key (text)."""

    scores: list[float]
    """Of each; the order is by score, and among equals not yet by key where marks are places."""

    matches: int
    """How many rows matched, counted up to the limit and one more."""

    with_all: int | None = None
    """How many of them, the first, have all the words; None where all have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A word or phrase of a query."""

    query: str
    stems: tuple[int, ...]
    """Their hashes; none for a stop word."""

    having: int
    """How many rows have it."""

    @property
    def words(self) -> str:
        """The query for its words in any order: PostgreSQL parses every row to see whether words stand side by side."""
        return self.query.replace(" <-> ", " & ")


class _RowChanged(Exception):
    """Others have changed a row between two statements of a search."""


class Ranking:
    """The ranking of one search: its connection, its request, and where the words of rows are."""

    def __init__(
        self, connection: Connection, known: Known, request: SearchRequest, rows: RowWords | None, *, most_read: int
    ) -> None:
        self._connection = connection
        self._known = known
        self._request = request
        self._bound = request.bound(known.table)
        self._rows = rows
        self._most_read = most_read
        self._matched = ""
        self._asked: list[Item] | None = None
        self._items_json = json.dumps(
            [{"query": item, "words": " ".join(words_of(item))} for item in request.words.items]
        )
        self.from_memory = rows is not None and rows.of(known) is not None
        self.matches = 0
        """How many rows matched, counted up to `most` and one more."""

        self.is_widened = False
        """True where no row has all the words, and those that have some were found."""

        self.full_score = 0.0
        """About what a text of usual length scores that has each word once: the sum of their idf."""

    @property
    def most(self) -> int:
        """How many matches are ranked; of more, any."""
        return MOST_REMEMBERED if self.from_memory else self._most_read

    def find(self, *, k: int, vector: bytes | None, completes: bool = False) -> list[tuple[Row, float]] | None:
        """The k best rows and their scores, best first, of equal ones that with the smaller key first; None where one of them
        was changed between ranking and reading, which does not happen on one snapshot.

        Where no row has all the words, rows with some; if it `completes`, they follow those with all where these are few.
        """
        try:
            return self.rows(self._found(k=k, completes=completes), k=k, vector=vector)
        except _RowChanged:
            return None

    def _found(self, *, k: int, completes: bool) -> Best:
        query = self._request.words.query
        nothing = Best(marks=[], scores=[], matches=0)
        some = self._some_at_once(k=k) if completes and query else None
        found = None if some is None else self._remembered([query, some], k=k)
        if found is not None:
            best, more = found
            if best.marks:
                self.matches = best.matches
                return _completed(best, more, k=k)
        best = self.best(query, k=k) if query else nothing
        self.matches = best.matches
        if best.marks and not (completes and len(best.marks) < k):
            return best
        was_from_memory = self.from_memory
        with_some = self.best_with_some(k=k, is_enough=completes)
        if with_some is None:
            return best
        if not best.marks:
            self.is_widened, self.matches = bool(with_some.marks), with_some.matches
            return with_some
        if self.from_memory != was_from_memory:
            return self._found(k=k, completes=completes)
        self._matched = f"({query}) | ({self._matched})"
        return _completed(best, with_some, k=k)

    def _some_at_once(self, *, k: int) -> str | None:
        """The query for rows with some of the words, where it can be sent together with that for rows with all: from memory,
        and with stems that are known; None where it is not needed, since probably k rows have all."""
        words, rows = self._request.words, self._rows
        postings = None if rows is None or not self.from_memory else rows.postings
        if rows is None or postings is None or not words.is_plain or len(words.items) < 2:
            return None
        stems = rows.stems_of(words.items)
        if stems is None:
            return None
        self._asked = [
            Item(query=query, stems=hashes, having=_having(postings, hashes))
            for query, hashes in zip(words.items, stems, strict=True)
        ]
        self._sum_up(self._asked, texts=len(postings.lengths))
        items = sorted((item for item in self._asked if item.stems), key=lambda item: (item.having, item.query))
        texts = max(len(postings.lengths), 1)
        if len(items) < 2 or texts * math.prod(item.having / texts for item in items) >= k:
            return None
        return " | ".join(item.words for item in _rarest(items, FEW_REMEMBERED // 3))

    def best(self, query: str, *, k: int) -> Best:
        """The k best rows that match `query` (a tsquery), and those that tie with the last of them."""
        words = self._request.words
        if self.from_memory:
            found = self._remembered([query], k=k)
            if found is not None:
                return found[0]
            self.from_memory = False
        return self._read(query, words, k=k)

    def best_with_some(self, *, k: int, is_enough: bool = False) -> Best | None:
        """The k best rows that have some of the words; None where the query has only one, or says exactly what it wants. If
        that `is_enough`, only of those that have one of its rarest words."""
        words = self._request.words
        if not words.is_plain or len(words.items) < 2:
            return None
        items = [item for item in self._items(words) if item.stems]
        if len(items) < 2:
            return None
        items.sort(key=lambda item: (item.having, item.query))
        few = FEW_REMEMBERED if self.from_memory else FEW_READ
        some = _rarest(items, few // 3 if is_enough else few)
        found = self.best(" | ".join(item.words for item in some), k=k)
        if is_enough:
            return found
        enough = self._enough(found, items, k=k)
        return found if enough <= len(some) else self.best(" | ".join(item.words for item in items[:enough]), k=k)

    def rows(self, best: Best, *, k: int, vector: bytes | None) -> list[tuple[Row, float]]:
        """The k best rows with their scores, best first, those of equal score by key."""
        if not best.marks:
            return []
        known, parameters = self._known, {"text": self._request.words.query, "vector": vector}
        has_vector = vector is not None
        if isinstance(best.marks[0], bytes):
            marks = self._first_of_ties(best, k=k)
            parameters["places"] = _tids(marks)
            rows = known.run(
                self._connection,
                ("rows", has_vector),
                lambda: rows_at_places(known, with_distance=has_vector),
                parameters,
            )
        else:
            marks = best.marks[:k]
            parameters |= {"keys": json.dumps(marks), "text": self._matched}
            rows = known.run(
                self._connection,
                ("keys", has_vector),
                lambda: rows_with_keys(known, with_distance=has_vector),
                parameters,
            )
        at = len(known.table.spec.columns.names)
        with_all = set(best.marks[: best.with_all])
        score_of = dict(zip(best.marks, best.scores, strict=True))
        scored = [(row, score_of[row[at]]) for row in rows if row[at] in score_of]
        if len(scored) < len(marks):
            raise _RowChanged
        scored.sort(key=lambda one: (one[0][at] not in with_all, -one[1], str(one[0][0])))
        return scored[:k]

    # --- the two ways -------------------------------------------------------------------------------------------------

    def _remembered(self, queries: Sequence[str], *, k: int) -> list[Best] | None:
        """The best rows of each query, in one round trip; None where the words in memory are not enough."""
        known, words, rows = self._known, self._request.words, self._rows
        assert rows is not None
        parameters = {**self._bound.values, "ranked": words.ranked, "items": self._items_json}
        answers = known.run_each(
            self._connection,
            ("places", *self._bound.shape),
            lambda: matching_places(known, self._request.filters, most=MOST_REMEMBERED + 1),
            [parameters | {"text": query} for query in queries],
        )
        found = []
        for [(file, stems, item_stems, places)] in answers:
            postings = rows.postings
            if postings is None:
                return None
            if self._asked is None:
                self._asked = _items_in(postings, words.items, item_stems)
                self._sum_up(self._asked, texts=len(postings.lengths))
                rows.note_stems({item.query: item.stems for item in self._asked})
            if places is None:
                found.append(Best(marks=[], scores=[], matches=0))
                continue
            matching = np.frombuffer(places, dtype=PLACE)
            with_slots = rows.slots_of(self._connection, known, file, matching)
            if with_slots is None:
                return None
            postings, slots, exists = with_slots
            if not exists.all():
                raise _RowChanged
            asked = sorted(set(_hashes(stems)))
            # On an event loop, tens of milliseconds are too long.
            scores = (
                waiting.beside(partial(postings.scores, asked, slots, texts=self._known.estimated_rows))
                if len(matching) > MANY
                else postings.scores(asked, slots, texts=self._known.estimated_rows)
            )
            chosen = _top(scores, k)
            order = chosen[np.lexsort((places_of(matching[chosen]), -scores[chosen]))]
            found.append(
                Best(
                    marks=[one.tobytes() for one in matching[order]],
                    scores=scores[order].tolist(),
                    matches=len(matching),
                )
            )
        return found

    def _read(self, query: str, words: ParsedQuery, *, k: int) -> Best:
        known, filters = self._known, self._request.filters
        self._matched = query
        found = known.run(
            self._connection,
            ("matches", self._most_read, *self._bound.shape),
            lambda: words_of_matches(known, filters, most=self._most_read + 1),
            {**self._bound.values, "text": query, "ranked": words.ranked},
        )
        lengths = np.array([row[1] or 0 for row in found], dtype=np.int64)
        counted = [np.frombuffer(row[2] or b"", dtype=_COUNTED) for row in found]
        stems = sorted({int(stem) for one in counted for stem in one["hash"]})
        norms = bm25.norm(lengths)
        weights = self._idf_of(stems, words, matches=len(found))
        scores = np.zeros(len(found))
        for stem in stems:
            times = np.array([int(one["times"][one["hash"] == stem].sum()) for one in counted])
            scores += weights[stem] * bm25.weight(times, norms)
        scores = bm25.rounded(scores)
        order = sorted(range(len(found)), key=lambda at: (-scores[at], found[at][0]))[:k]
        return Best(
            marks=[found[at][0] for at in order], scores=[float(scores[at]) for at in order], matches=len(found)
        )

    def _idf_of(self, stems: Sequence[int], words: ParsedQuery, *, matches: int) -> dict[int, float]:
        """The idf of each stem, of a spelling that joins two words that of the rarer of them."""
        if len(stems) <= 1:
            self.full_score = bm25.idf(self._known.estimated_rows, matches)
            return dict.fromkeys(stems, self.full_score)
        items = self._items(words)
        least = min((item.having for item in items if item.stems), default=0)
        having = {stem: item.having for item in items for stem in item.stems}
        return {stem: bm25.idf(self._known.estimated_rows, having.get(stem, least)) for stem in stems}

    # --- words ----------------------------------------------------------------------------------------------------------

    def _items(self, words: ParsedQuery) -> list[Item]:
        """The words and phrases of the query, and how many rows have each: of those in memory, else counted."""
        if self._asked is None:
            known = self._known
            rows = known.run(
                self._connection,
                ("items", self._most_read),
                lambda: stems_of_items(known, count_up_to=self._most_read),
                {"items": self._items_json},
            )
            self._asked = [
                Item(query=query, stems=tuple(_hashes(stems)), having=having)
                for query, (stems, having) in zip(words.items, rows, strict=True)
            ]
            self._sum_up(self._asked, texts=known.estimated_rows)
        return self._asked

    def _sum_up(self, items: Sequence[Item], *, texts: int) -> None:
        self.full_score = sum(bm25.idf(texts, item.having) * len(item.stems) for item in items)

    def _enough(self, found: Best, items: Sequence[Item], *, k: int) -> int:
        """How many of the items (rarest first) must be matched: no row that has only the others can reach the score of the k
        rows already found."""
        if len(found.scores) < k:
            return len(items)
        texts, bound = self._known.estimated_rows, 0.0
        for count in range(len(items), 0, -1):
            item = items[count - 1]
            bound += bm25.idf(texts, item.having) * bm25.MOST_WEIGHT * len(item.stems)
            if bound >= found.scores[k - 1]:
                return count
        return 0

    def _first_of_ties(self, best: Best, *, k: int) -> list[bytes]:
        """The marks of the k best rows, and of those that tie with the last; of very many ties those with the smallest keys."""
        if len(best.marks) <= k + MOST_TIED:
            return best.marks
        least, with_all = best.scores[k - 1], best.with_all or 0
        rest = list(zip(best.marks[with_all:], best.scores[with_all:], strict=True))
        certain = [*best.marks[:with_all], *(mark for mark, score in rest if score > least)]
        tied = [mark for mark, score in rest if score == least]
        known, needed = self._known, k - len(certain)
        rows = known.run(
            self._connection, ("ties", needed), lambda: first_by_key(known, most=needed), {"places": _tids(tied)}
        )
        first = {row[0] for row in rows}
        return [*certain, *(mark for mark, place in zip(tied, _place_texts(tied), strict=True) if place in first)]


def _items_in(postings: Postings, queries: Sequence[str], stems: bytes | None) -> list[Item]:
    """The words and phrases of the query, with the number of rows in memory that have each."""
    of: list[list[int]] = [[] for _ in queries]
    for number, stem in np.frombuffer(stems or b"", dtype=_ITEM_STEM).tolist():
        of[number - 1].append(stem)
    return [
        Item(query=query, stems=tuple(hashes), having=_having(postings, hashes))
        for query, hashes in zip(queries, of, strict=True)
    ]


def _having(postings: Postings, stems: Sequence[int]) -> int:
    return min((postings.having(stem) for stem in stems), default=0)


def _completed(best: Best, some: Best, *, k: int) -> Best:
    """Rows with all words, and after them those with some, where there are fewer than k."""
    if len(best.marks) >= k:
        return best
    has_all = set(best.marks)
    more = [(mark, score) for mark, score in zip(some.marks, some.scores, strict=True) if mark not in has_all]
    needed = k - len(best.marks)
    least = more[needed - 1][1] if len(more) > needed else 0.0
    more = [(mark, score) for mark, score in more if score >= least]
    return Best(
        marks=[*best.marks, *(mark for mark, _ in more)],
        scores=[*best.scores, *(score for _, score in more)],
        matches=best.matches,
        with_all=len(best.marks),
    )


def _rarest(items: Sequence[Item], most: int) -> list[Item]:
    """The rarest items (ascending) that together at most `most` rows have; at least those that none or fewest have."""
    some: list[Item] = []
    total = 0
    for item in items:
        total += item.having
        if some and total > most and some[-1].having:
            break
        some.append(item)
    return some


def _top(scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.intp]:
    """The positions of the k largest scores, and of all that equal the smallest of these."""
    if len(scores) <= k:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least)


def _hashes(stems: bytes | None) -> list[int]:
    return [] if stems is None else [int(stem) for stem in np.frombuffer(stems, dtype=">u4")]


def _place_texts(marks: Sequence[bytes]) -> list[str]:
    return [place_text(place) for place in places_of(np.frombuffer(b"".join(marks), dtype=PLACE)).tolist()]


def _tids(marks: Sequence[bytes]) -> str:
    return "{" + ",".join(f'"{place}"' for place in _place_texts(marks)) + "}"
