"""The articles that have the words of a query, ranked by BM25: from words in memory, or by reading the matches' texts.

Both ways match by the same statement of PostgreSQL and rank by the same formula. From memory, ranking a match takes a
fraction of a microsecond; by reading, 0.1 ms (`ranking_from_texts.py`).

A query of plain words that no row has all of is answered by the rows that have some. A word that many rows have cannot
lift a row above those that have the rare ones, so the rarest words are matched first, and the others only where the result
could change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.search.keyword.document import TextConfig, has_words
from everindex.articles.search.keyword.postings import (
    PLACE,
    Best,
    Item,
    full_score,
    needed_to_reach,
    place_texts,
    rarest,
    tid_array,
)
from everindex.articles.search.keyword.ranking_from_texts import best_of_texts, count_items
from everindex.articles.search.keyword.row_words import RowChanged, RowWords, stems_of_each
from everindex.articles.search.keyword.state import Known
from everindex.articles.search.keyword.statements import (
    first_by_key,
    matching_places,
    rows_at_places,
    rows_with_keys,
)
from everindex.articles.search.request.parsed_query import MOST_WORDS, words_of
from everindex.articles.search.request.search_request import Page, SearchRequest
from everindex.articles.shape.hit import Hit, with_text_date
from everindex.articles.table import CollectionTable
from everindex.pg.connections import Connection
from everindex.pg.roundtrip import Settings
from everindex.pg.sqlstate import translate_errors
from everindex.pg.vector_type import as_binary

#: Without the words of the rows in memory, ranking reads and parses every match, about 0.1 ms each. Where more match, only
#: this many are ranked, and the answer says so.
MOST_RANKED = 10_000
#: From memory, this many matches are ranked; finding them takes some 0.6 µs each (docs/measurements/words.md).
MOST_REMEMBERED = 100_000
#: Of rows that have some of the words, this many are ranked at first: from memory, and by reading.
FEW_REMEMBERED, FEW_READ = 3_000, 300
#: Rows of equal score are ordered by key. Where more than this many compete for the last places, the server orders them.
MOST_TIED = 200
WIDENED = "no article has all words of the query: these have some of them, best first"
#: Below this many rows, a missing index is not noticeable.
FEW_ROWS = 1000

#: Without filters the plan is the same for all words, and planning the document's expression took a third of the statement
#: (docs/measurements/words.md).
PLANNED_ONCE = (("plan_cache_mode", "force_generic_plan"),)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The articles that have the words, best first, without snippets."""

    hits: list[Hit]
    has_words: bool = True
    """False when the query has no searchable word."""

    full_score: float = 0.0
    """About what a text of usual length scores that has each word of the query once."""

    is_widened: bool = False
    """No row has all the words; these have some."""

    total: int | None = None
    """How many articles have all words; None where some of them were looked for."""

    total_is_least: bool = False
    """Whether there are more than `total`, which were not counted."""

    notices: list[str] = field(default_factory=list)


def find(
    connection: Connection,
    known: Known,
    page: Page,
    *,
    vector: np.ndarray | None = None,
    most_ranked: int = MOST_RANKED,
    rows: RowWords | None = None,
    completes: bool = False,
) -> Found:
    """The `page.k` best articles that match the words of the request, with their distance to `vector` ((dim,) float32)
    where one is passed. Articles on previous pages are included.

    Rows with some of the words are found where none has all of a query of plain words; if it `completes`, also after those
    with all, up to `page.k`, and whatever the query, unless it leaves something out.
    Reads only; ranks from the words in memory (`rows`) where these are there, else by reading up to `most_ranked` matches.
    Raises what statements raise.
    """
    words = page.request.words
    query_vector = None if vector is None else as_binary(vector)
    with translate_errors("searching by keyword"):
        ranking = Ranking(connection, known, page.request, rows, most_read=most_ranked)
        try:
            found = ranking.find(k=page.k, vector=query_vector, completes=completes)
        except RowChanged:
            with connection.transaction():  # once more, on one snapshot
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                found = ranking.find(k=page.k, vector=query_vector, completes=completes)
        if not found and not has_words(connection, known.config, words.words):
            return Found(hits=[], has_words=False, notices=[_no_words(known.config)])
    notices = []
    if words.is_cut:
        notices.append(f"only the first {MOST_WORDS} words of the query were used for keyword search")
    if ranking.is_widened:
        notices.append(WIDENED)
    if ranking.matches > ranking.most:
        notices.append(
            f"more than {ranking.most:,} articles have these words, of which {ranking.most:,} were ranked by keyword; "
            "another word or a filter narrows the search"
        )
    if not known.is_indexed and known.estimated_rows >= FEW_ROWS:
        notices.append(
            "no index is available for keyword search at the moment: every row was read "
            f"({known.table.spec.words_index_name} is built by everindex migrate and by the keeper)"
        )
    return Found(
        hits=[_hit(known.table, row, score, rank) for rank, (row, score) in enumerate(found, start=1)],
        full_score=ranking.full_score,
        is_widened=ranking.is_widened,
        total=None if ranking.is_widened else min(ranking.matches, ranking.most),
        total_is_least=ranking.matches > ranking.most,
        notices=notices,
    )


_NONE = Best(marks=[], scores=[], matches=0)


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
        self._items: list[Item] | None = None
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

    def find(self, *, k: int, vector: bytes | None, completes: bool = False) -> list[tuple[Row, float]]:
        """The k best rows and their scores, best first, of equal ones that with the smaller key first.

        Where no row has all the words, rows with some; if it `completes`, they follow those with all where these are few.
        Raises RowChanged where one of them was changed between ranking and reading, which does not happen on one snapshot.
        """
        return self._rows_of(self._best(k=k, completes=completes), k=k, vector=vector)

    def _best(self, *, k: int, completes: bool) -> Best:
        query = self._request.words.query
        some = self._some_at_once(k=k) if completes and query else None
        found = None if some is None else self._all_and_some(query, some, k=k)
        if found is not None:
            best, more = found
            if best.marks:
                self.matches = best.matches
                return best.followed_by(more, k=k)
            self.is_widened, self.matches = bool(more.marks), more.matches
            return more
        best = self._matching(query, k=k) if query else _NONE
        self.matches = best.matches
        if best.marks and not (completes and len(best.marks) < k):
            return best
        was_from_memory = self.from_memory
        with_some = self._with_some(k=k, is_enough=completes)
        if with_some is None:
            return best
        if not best.marks:
            self.is_widened, self.matches = bool(with_some.marks), with_some.matches
            return with_some
        if self.from_memory != was_from_memory:
            return self._best(k=k, completes=completes)
        self._matched = f"({query}) | ({self._matched})"
        return best.followed_by(with_some, k=k)

    def _some_at_once(self, *, k: int) -> str | None:
        """The query for rows with some of the words, where it can be sent together with that for rows with all: from memory,
        and with stems that are known; None where it is not needed, since probably k rows have all."""
        words, rows = self._request.words, self._rows
        if rows is None or not self.from_memory or not words.may_be_widened or len(words.items) < 2:
            return None
        known, postings = rows.known_items(words.items), rows.postings
        if known is None or postings is None:
            return None
        self._note_items(known, texts=postings.texts)
        items = sorted((item for item in known if item.stems), key=lambda item: (item.having, item.query))
        texts = max(postings.texts, 1)
        if len(items) < 2 or texts * math.prod(item.having / texts for item in items) >= k:
            return None
        return " | ".join(item.words for item in rarest(items, FEW_REMEMBERED // 3))

    def _all_and_some(self, query: str, some: str, *, k: int) -> tuple[Best, Best] | None:
        """The best rows with all the words, and of those with some. Where each word has one stem, the rows with all of them
        are told among the others by the words in memory; else the server is asked for both, in one round trip."""
        words = [item for item in self._items or () if item.stems]
        if query == " & ".join(self._request.words.items) and all(len(item.stems) == 1 for item in words):
            found = self._remembered([some], k=k, every={item.stems[0] for item in words})
        else:
            found = self._remembered([query, some], k=k)
        return None if found is None else (found[0], found[1])

    def _matching(self, matching: str, *, k: int) -> Best:
        """The k best rows that match a tsquery, and those that tie with the last of them."""
        if self.from_memory:
            found = self._remembered([matching], k=k)
            if found is not None:
                return found[0]
            self.from_memory = False
        return self._read(matching, k=k)

    def _with_some(self, *, k: int, is_enough: bool) -> Best | None:
        """The k best rows that have some of the words; None where the query has only one, or says exactly what it wants. If
        that `is_enough`, only of those that have one of its rarest words, and phrases count as words."""
        words = self._request.words
        if not (words.may_be_widened if is_enough else words.is_plain) or len(words.items) < 2:
            return None
        items = [item for item in self._counted_items() if item.stems]
        if len(items) < 2:
            return None
        items.sort(key=lambda item: (item.having, item.query))
        few = FEW_REMEMBERED if self.from_memory else FEW_READ
        some = rarest(items, few // 3 if is_enough else few)
        found = self._matching(" | ".join(item.words for item in some), k=k)
        if is_enough:
            return found
        least = found.scores[k - 1] if len(found.scores) >= k else 0.0
        enough = needed_to_reach(least, items, texts=self._known.estimated_rows)
        return found if enough <= len(some) else self._matching(" | ".join(item.words for item in items[:enough]), k=k)

    def _rows_of(self, best: Best, *, k: int, vector: bytes | None) -> list[tuple[Row, float]]:
        """The k best rows with their scores, best first, those of equal score by key."""
        if not best.marks:
            return []
        known, has_vector = self._known, vector is not None
        parameters: dict[str, Any] = {"text": self._request.words.query, "vector": vector}
        if isinstance(best.marks[0], bytes):
            marks = self._first_of_ties(best, k=k)
            parameters["places"] = tid_array(place_texts(marks))
            [rows] = self._run(
                ("rows", has_vector), lambda: rows_at_places(known, with_distance=has_vector), parameters
            )
        else:
            marks = best.marks[:k]
            parameters |= {"keys": json.dumps(marks), "text": self._matched}
            [rows] = self._run(
                ("keys", has_vector), lambda: rows_with_keys(known, with_distance=has_vector), parameters
            )
        at = len(known.table.spec.columns.names)
        with_all = set(best.marks[: best.with_all])
        score_of = dict(zip(best.marks, best.scores, strict=True))
        scored = [(row, score_of[row[at]]) for row in rows if row[at] in score_of]
        if len(scored) < len(marks):
            raise RowChanged
        scored.sort(key=lambda one: (one[0][at] not in with_all, -one[1], str(one[0][0])))
        return scored[:k]

    def _run(
        self,
        shape: tuple[Any, ...],
        compose: Callable[[], sql.Composed],
        *parameters: Mapping[str, Any],
        settings: Settings = (),
    ) -> list[list[Row]]:
        """The rows of the statement of this shape for each of `parameters`, in one round trip."""
        return self._known.texts.of(shape, compose).run_each(self._connection, parameters, settings=settings)

    # --- the two ways -------------------------------------------------------------------------------------------------

    def _remembered(self, queries: Sequence[str], *, k: int, every: Set[int] = frozenset()) -> list[Best] | None:
        """The best rows of each query, in one round trip; before those of each the best that have the words with the hashes
        `every`, where these are given. None where the words in memory are not enough."""
        known, request, rows = self._known, self._request, self._rows
        assert rows is not None
        parameters = {**self._bound.values, "ranked": request.words.ranked, "items": self._items_json}
        answers = self._run(
            ("places", *self._bound.shape),
            lambda: matching_places(known, request.filters, most=MOST_REMEMBERED + 1),
            *(parameters | {"text": matching} for matching in queries),
            settings=() if request.is_filtered else PLANNED_ONCE,
        )
        found: list[Best] = []
        for [(file, stems, item_stems, places)] in answers:
            if self._items is None:
                items, postings = rows.items(stems_of_each(request.words.items, item_stems)), rows.postings
                if items is None or postings is None:
                    return None
                self._note_items(items, texts=postings.texts)
            best: tuple[Best, ...] | None = (_NONE, _NONE) if every else (_NONE,)
            if places is not None:
                hashes = sorted(set(np.frombuffer(stems or b"", dtype=">u4").tolist()))
                matching = np.frombuffer(places, dtype=PLACE)
                best = rows.best(self._connection, known, file, matching, hashes, k=k, every=every)
            if best is None:
                return None
            found += best
        return found

    def _read(self, matching: str, *, k: int) -> Best:
        self._matched = matching
        best, of_one_stem = best_of_texts(
            self._connection,
            self._known,
            self._request,
            {**self._bound.values, "text": matching, "ranked": self._request.words.ranked},
            items=self._counted_items,
            most=self._most_read,
            k=k,
        )
        if of_one_stem is not None:
            self.full_score = of_one_stem
        return best

    # --- words ----------------------------------------------------------------------------------------------------------

    def _counted_items(self) -> list[Item]:
        """The words and phrases of the query, and how many rows have each: of those in memory, else counted."""
        if self._items is None:
            queries, most = self._request.words.items, self._most_read
            items = count_items(self._connection, self._known, queries, items_json=self._items_json, most=most)
            self._note_items(items, texts=self._known.estimated_rows)
            return items
        return self._items

    def _note_items(self, items: list[Item], *, texts: int) -> None:
        self._items = items
        self.full_score = full_score(items, texts=texts)

    def _first_of_ties(self, best: Best, *, k: int) -> list[bytes]:
        """The marks of the k best rows, and of those that tie with the last; of very many ties those with the smallest keys."""
        if len(best.marks) <= k + MOST_TIED:
            return best.marks
        least, with_all = best.scores[k - 1], best.with_all or 0
        rest = list(zip(best.marks[with_all:], best.scores[with_all:], strict=True))
        certain = [*best.marks[:with_all], *(mark for mark, score in rest if score > least)]
        tied = [mark for mark, score in rest if score == least]
        known, needed = self._known, k - len(certain)
        [rows] = self._run(
            ("ties", needed), lambda: first_by_key(known, most=needed), {"places": tid_array(place_texts(tied))}
        )
        first = {row[0] for row in rows}
        return [*certain, *(mark for mark, place in zip(tied, place_texts(tied), strict=True) if place in first)]


def _hit(table: CollectionTable, row: Row, score: float, rank: int) -> Hit:
    columns = table.spec.columns
    at = len(columns.names)  # then the mark and, where there is a vector, the distance
    distance = row[at + 1] if len(row) > at + 1 else None
    # The cosine distance of a zero vector is NaN.
    known_distance = None if distance is None or distance != distance else float(distance)
    shown = row if table.date_at is None else with_text_date(row, table.date_at)
    return Hit(columns, row[0], shown[:at], known_distance, keyword_rank=rank, score=score)


def _no_words(config: TextConfig) -> str:
    return (
        "no word of the query can be searched for by keyword: they are all too common (stop words of the language "
        f"{config.name!r}), or have no letter and no digit"
    )
