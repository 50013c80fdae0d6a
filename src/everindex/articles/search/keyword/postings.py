"""The postings of a table's texts in this process's memory: which rows have a word, how often, and how long each row's text is.

A row is known by its place (ctid) and its inserting transaction (xmin): an UPDATE makes a new row, so what is known of a row
never changes, and needs no notification when others write. Words are known by a hash of their stem, 32 bits wide: two of
100,000 words collide once in a hundred tables, and a collision only ranks a text too high that has another of the words.

Values, not a service: adding rows gives other postings. Not guaranteed: that a row still exists; the server says which do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.articles.search.keyword import bm25

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

Places = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.intp]


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
    """How often the row has the word, those in its title counted `bm25.TITLE_WEIGHT` times; (postings,)."""

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
        times = words["times"].astype(np.int64) + (bm25.TITLE_WEIGHT - 1) * words["in_title"].astype(np.int64)
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

    def scores(self, words: list[int], slots: Slots, *, texts: int) -> npt.NDArray[np.float64]:
        """BM25 of the rows in `slots` ((n,)) for the words with these hashes, in a table of `texts` rows; (n,)."""
        norms = bm25.norm(self.lengths[slots])
        total = np.zeros(len(slots), dtype=np.float64)
        times = np.zeros(len(self.lengths), dtype=np.uint8)
        for word in words:
            found = [(segment, segment.of(word)) for segment in self.segments]
            having = sum(part.stop - part.start for _, part in found)
            if not having:
                continue
            for segment, part in found:
                times[segment.slots[part]] = segment.times[part]
            total += bm25.idf(texts, having) * bm25.weight(times[slots], norms)
            for segment, part in found:
                times[segment.slots[part]] = 0
        return bm25.rounded(total)


def places_of(rows: npt.NDArray[Any]) -> Places:
    """Block and offset as one number, in table order."""
    return np.asarray(rows["block"].astype(np.uint64) << np.uint64(16) | rows["offset"].astype(np.uint64))


def place_text(place: int) -> str:
    """A place as PostgreSQL writes a tid."""
    return f"({place >> 16},{place & 0xFFFF})"


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
