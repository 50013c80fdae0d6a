"""The postings of a table's texts in this process's memory: which rows have a word, and how often; and BM25 by them.

A row is known by its place (ctid) and its inserting transaction (xmin): an UPDATE makes a new row, so what is known of a row
never changes, and needs no notification when others write. Words are known by a hash of their stem, 32 bits wide: two of
100,000 words collide once in a hundred tables, and a collision only ranks a text too high that has another of the words.

BM25 says how well a text answers the words of a query: a word counts more the fewer texts have it, each further time less
than the time before, and in a long text less than in a short one. A word of the title counts as TITLE_WEIGHT words of the
rest.

Values, not a service: adding rows gives other postings. Not guaranteed: that a row still exists; the server says which do.

Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, sections 3.5 (BM25) and 3.6
(BM25F, here with one length for both fields). The constants were chosen in docs/measurements/words.md.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

#: What the server sends of each row, and of each word of it (`row_words.py`).
ROW = np.dtype([("block", ">u4"), ("offset", ">u2"), ("xmin", ">u4"), ("words", ">i4")])
WORD = np.dtype([("hash", ">u4"), ("times", ">u2"), ("in_title", ">u2")])
PLACE = np.dtype([("block", ">u4"), ("offset", ">u2"), ("xmin", ">u4")])

#: Bytes of one posting and of one row.
POSTING_BYTES, ROW_BYTES = 5, 20
#: Times a text has a word, as many as are counted: further ones hardly add to a score.
MOST_TIMES = 255
#: Segments with fewer postings are joined when there are more than MOST_SEGMENTS of them.
MOST_SEGMENTS = 12

#: How quickly further times of a word count less; 0 would count a word once.
SATURATION = 1.2
#: How much the length of a text counts, 0 to 1.
LENGTH_SHARE = 0.5
TITLE_WEIGHT = 2
#: A text of so many words is neither long nor short. Not the mean of the table: that is known only to a process that has its
#: words in memory, and two processes would order the same hits differently, also behind a pooler.
USUAL_LENGTH = 50.0
#: No word adds more to a score than this many times its idf.
MOST_WEIGHT = SATURATION + 1

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A word or phrase of a query."""

    query: str
    """For to_tsquery."""

    stems: tuple[int, ...]
    """Their hashes; none for a stop word."""

    having: int
    """How many rows have it."""

    @property
    def words(self) -> str:
        """The query for its words in any order: PostgreSQL parses every row to see whether words stand side by side."""
        return self.query.replace(" <-> ", " & ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best matches of a query."""

    marks: list[Any]
    """What identifies each row: place and transaction (bytes of PLACE), or its key (text)."""

    scores: list[float]
    """Of each; the order is by score, and among equals not yet by key where marks are places."""

    matches: int
    """How many rows matched, counted up to the limit and one more."""

    with_all: int | None = None
    """How many of them, the first, have all the words; None where all have."""

    def followed_by(self, some: Best, *, k: int) -> Best:
        """These rows, which have all the words, and after them those with some, where there are fewer than k."""
        if len(self.marks) >= k:
            return self
        has_all = set(self.marks)
        more = [(mark, score) for mark, score in zip(some.marks, some.scores, strict=True) if mark not in has_all]
        needed = k - len(self.marks)
        least = more[needed - 1][1] if len(more) > needed else 0.0
        more = [(mark, score) for mark, score in more if score >= least]
        return Best(
            marks=[*self.marks, *(mark for mark, _ in more)],
            scores=[*self.scores, *(score for _, score in more)],
            matches=self.matches,
            with_all=len(self.marks),
        )


@dataclass(frozen=True, slots=True)
class _Segment:
    """The postings of some of the rows, ordered by word."""

    hashes: npt.NDArray[np.uint32]
    """Each word once, ascending; (words,)."""

    starts: npt.NDArray[np.int32]
    """Where the postings of each word begin, and where the last end; (words + 1,)."""

    slots: npt.NDArray[np.int32]
    """The row of each posting; (postings,)."""

    times: npt.NDArray[np.uint8]
    """How often the row has the word, those in its title counted TITLE_WEIGHT times; (postings,)."""

    def of(self, word: int) -> slice:
        at = int(np.searchsorted(self.hashes, np.uint32(word)))
        if at == len(self.hashes) or self.hashes[at] != word:
            return slice(0, 0)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))


@dataclass(frozen=True, slots=True)
class Postings:
    """Rows ordered by place, and their words. A row's slot is its number in the order in which rows were added."""

    file: int
    """The table's filenode: a rewrite (VACUUM FULL, CLUSTER, TRUNCATE) makes every place another."""

    places: Places
    xmins: npt.NDArray[np.uint32]
    slots: npt.NDArray[np.int32]
    """Of the row at each of `places`."""

    lengths: npt.NDArray[np.uint16]
    """Words of each slot's text, those of the title counted as in `_Segment.times`."""

    segments: tuple[_Segment, ...]

    @classmethod
    def none(cls, file: int) -> Postings:
        """No row known yet."""
        return cls(
            file,
            np.empty(0, np.uint64),
            np.empty(0, np.uint32),
            np.empty(0, np.int32),
            np.empty(0, np.uint16),
            (),
        )

    @property
    def rows(self) -> int:
        return len(self.places)

    @property
    def texts(self) -> int:
        """The texts that `having` counts: those of rows that no longer exist, too."""
        return len(self.lengths)

    @property
    def dead_rows(self) -> int:
        """Rows that others have taken the place of, or that were dropped; their postings still take memory."""
        return len(self.lengths) - len(self.places)

    @property
    def memory_bytes(self) -> int:
        count = sum(len(segment.slots) for segment in self.segments)
        words = sum(len(segment.hashes) for segment in self.segments)
        return count * POSTING_BYTES + words * 8 + len(self.lengths) * ROW_BYTES

    def find(self, rows: npt.NDArray[Any]) -> tuple[Slots, npt.NDArray[np.bool_]]:
        """The slot of each of the rows ((n,) of PLACE or ROW), and whether it is known; the slot of one that is not means
        nothing."""
        places = places_of(rows)
        if not len(self.places):
            return np.zeros(len(places), dtype=np.intp), np.zeros(len(places), dtype=np.bool_)
        at = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        is_known = (self.places[at] == places) & (self.xmins[at] == rows["xmin"])
        return self.slots[at].astype(np.intp), is_known

    def with_rows(self, rows: npt.NDArray[Any], words: npt.NDArray[Any]) -> Postings:
        """These and further rows ((n,) of ROW); `words` ((m,) of WORD) are theirs one after the other."""
        if not len(rows):
            return self
        first = len(self.lengths)
        counts = rows["words"].astype(np.int64)
        row_of_word = np.repeat(np.arange(len(rows)), counts)
        times = words["times"].astype(np.int64) + (TITLE_WEIGHT - 1) * words["in_title"].astype(np.int64)
        lengths = np.bincount(row_of_word, weights=times, minlength=len(rows))
        places = places_of(rows)
        kept = ~np.isin(self.places, places)
        every = np.concatenate([self.places[kept], places])
        order = np.argsort(every)
        return replace(
            self,
            places=every[order],
            xmins=np.concatenate([self.xmins[kept], rows["xmin"].astype(np.uint32)])[order],
            slots=np.concatenate([self.slots[kept], np.arange(first, first + len(rows), dtype=np.int32)])[order],
            lengths=np.concatenate([self.lengths, np.minimum(lengths, 65_535).astype(np.uint16)]),
            segments=_compacted(
                (
                    *self.segments,
                    _segment(
                        words["hash"].astype(np.uint32),
                        (row_of_word + first).astype(np.int32),
                        np.minimum(times, MOST_TIMES).astype(np.uint8),
                    ),
                )
            ),
        )

    def having(self, word: int) -> int:
        """How many rows have a word, given by its hash; counts rows that no longer exist, too."""
        return sum(part.stop - part.start for part in (segment.of(word) for segment in self.segments))

    def items(self, queries: Sequence[str], stems: Sequence[Sequence[int]]) -> list[Item]:
        """The words and phrases of a query, given with the hashes of their stems, and how many rows have each."""
        return [
            Item(query=query, stems=tuple(hashes), having=min(map(self.having, hashes), default=0))
            for query, hashes in zip(queries, stems, strict=True)
        ]

    def best(self, words: list[int], rows: npt.NDArray[Any], slots: Slots, *, texts: int, k: int) -> Best:
        """The k best of the matching rows ((n,) of PLACE, with their slots), and those that tie with the last of them; in a
        table of `texts` rows."""
        return _best_of(rows, self.scores(words, slots, texts=texts), k=k)

    def best_with_all(
        self, words: list[int], every: Set[int], rows: npt.NDArray[Any], slots: Slots, *, texts: int, k: int
    ) -> tuple[Best, Best]:
        """The k best of the matching rows that have each word of `every`, and the k best of all of them."""
        scores, counts = self._scores(words, slots, texts=texts, counted=every)
        has_all = counts == len(every)
        return _best_of(rows[has_all], scores[has_all], k=k), _best_of(rows, scores, k=k)

    def scores(self, words: list[int], slots: Slots, *, texts: int) -> Floats:
        """BM25 of the rows in `slots` ((n,)) for the words with these hashes, in a table of `texts` rows; (n,)."""
        return self._scores(words, slots, texts=texts)[0]

    def _scores(
        self, words: list[int], slots: Slots, *, texts: int, counted: Set[int] = frozenset()
    ) -> tuple[Floats, npt.NDArray[np.intp]]:
        """The scores, and how many of the words `counted` each row has."""
        norms = length_norm(self.lengths[slots])
        total = np.zeros(len(slots), dtype=np.float64)
        counts = np.zeros(len(slots), dtype=np.intp)
        times = np.zeros(len(self.lengths), dtype=np.uint8)
        for word in words:
            found = [(segment, segment.of(word)) for segment in self.segments]
            having = sum(part.stop - part.start for _, part in found)
            if not having:
                continue
            for segment, part in found:
                times[segment.slots[part]] = segment.times[part]
            of_rows = times[slots]
            total += idf(texts, having) * term_weight(of_rows, norms)
            if word in counted:
                counts += of_rows > 0
            for segment, part in found:
                times[segment.slots[part]] = 0
        return rounded_scores(total), counts


def _best_of(rows: npt.NDArray[Any], scores: Floats, *, k: int) -> Best:
    chosen = _top(scores, k)
    order = chosen[np.lexsort((places_of(rows[chosen]), -scores[chosen]))]
    return Best(marks=[row.tobytes() for row in rows[order]], scores=scores[order].tolist(), matches=len(rows))


def idf(texts: float, having: float) -> float:
    """The weight of a word that `having` of `texts` texts have; above 0, and largest for a word that none has."""
    texts = max(texts, having)
    return float(np.log1p((texts - having + 0.5) / (having + 0.5)))


def length_norm(lengths: npt.NDArray[np.integer | np.floating]) -> Floats:
    """What each text's length does to `term_weight`, (n,) from (n,) lengths in words."""
    share = lengths / USUAL_LENGTH
    return np.asarray(SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * share), dtype=np.float64)


def term_weight(times: npt.NDArray[np.integer | np.floating], norms: Floats) -> Floats:
    """What a word adds to a text's score for each unit of its idf: 0 to MOST_WEIGHT, (n,) from how many `times` it has it,
    those in the title counted TITLE_WEIGHT times."""
    return np.asarray(times * (SATURATION + 1) / (times + norms), dtype=np.float64)


def rounded_scores(scores: Floats) -> Floats:
    """Scores that are equal where only the order of additions made them differ: equal ones are ordered by key."""
    return np.round(scores, 9)


def full_score(items: Sequence[Item], *, texts: int) -> float:
    """About what a text of usual length scores that has each of the words once: the sum of their idf."""
    return sum(idf(texts, item.having) * len(item.stems) for item in items)


def needed_to_reach(score: float, items: Sequence[Item], *, texts: int) -> int:
    """How many of the items (rarest first) must be matched: no row that has only the others can reach `score`."""
    bound = 0.0
    for count in range(len(items), 0, -1):
        item = items[count - 1]
        bound += idf(texts, item.having) * MOST_WEIGHT * len(item.stems)
        if bound >= score:
            return count
    return 0


def rarest(items: Sequence[Item], most: int) -> list[Item]:
    """The rarest items (ascending) that together at most `most` rows have; at least those that none or fewest have."""
    some: list[Item] = []
    total = 0
    for item in items:
        total += item.having
        if some and total > most and some[-1].having:
            break
        some.append(item)
    return some


def _top(scores: Floats, k: int) -> npt.NDArray[np.intp]:
    """The positions of the k largest scores, and of all that equal the smallest of these."""
    if len(scores) <= k:
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least)


def places_of(rows: npt.NDArray[Any]) -> Places:
    """Block and offset as one number, in table order."""
    return np.asarray(rows["block"].astype(np.uint64) << np.uint64(16) | rows["offset"].astype(np.uint64))


def place_text(place: int) -> str:
    """A place as PostgreSQL writes a tid."""
    return f"({place >> 16},{place & 0xFFFF})"


def place_texts(marks: Sequence[bytes]) -> list[str]:
    """The places of marks (bytes of PLACE), as text."""
    return [place_text(place) for place in places_of(np.frombuffer(b"".join(marks), dtype=PLACE)).tolist()]


def tid_array(places: Sequence[str]) -> str:
    """Places as PostgreSQL writes a tid[]."""
    return "{" + ",".join(f'"{place}"' for place in places) + "}"


def _segment(hashes: npt.NDArray[np.uint32], slots: npt.NDArray[np.int32], times: npt.NDArray[np.uint8]) -> _Segment:
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else np.empty(0)
    return _Segment(
        ordered[starts.astype(np.intp)],
        np.concatenate([starts, [len(ordered)]]).astype(np.int32),
        slots[order],
        times[order],
    )


def _compacted(segments: tuple[_Segment, ...]) -> tuple[_Segment, ...]:
    """The segments, the smaller half of them joined where they are too many: each posting is moved only a few times."""
    if len(segments) <= MOST_SEGMENTS:
        return segments
    by_size = sorted(segments, key=lambda segment: -len(segment.slots))
    large, small = by_size[: MOST_SEGMENTS // 3], by_size[MOST_SEGMENTS // 3 :]
    return (
        *large,
        _segment(
            np.concatenate([np.repeat(one.hashes, np.diff(one.starts)) for one in small]),
            np.concatenate([one.slots for one in small]),
            np.concatenate([one.times for one in small]),
        ),
    )


def joined(postings: Postings) -> Postings:
    """The same postings in one segment, in which a word is found fastest."""
    if len(postings.segments) <= 1:
        return postings
    parts = postings.segments
    return replace(
        postings,
        segments=(
            _segment(
                np.concatenate([np.repeat(one.hashes, np.diff(one.starts)) for one in parts]),
                np.concatenate([one.slots for one in parts]),
                np.concatenate([one.times for one in parts]),
            ),
        ),
    )
