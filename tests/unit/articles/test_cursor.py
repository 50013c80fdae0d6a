"""A cursor continues the question that gave it, to the last bit, and nothing else."""

from __future__ import annotations

import base64
import math
import string
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.articles.model import MAX_URI_BYTES
from everindex.articles.search.request.cursor import (
    MOST_SEEN,
    VERSION,
    Cursor,
    digest_of,
    read_cursor,
    seen_digest,
    write_cursor,
)
from everindex.errors import CursorRefused

ASKED = digest_of(["text", "memory leak", None])

uris = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200)
cursors = st.builds(
    Cursor,
    distance=st.floats(allow_nan=False, allow_infinity=False),
    uri=uris,
    shown=st.integers(0, 2**32 - 1),
    hidden=st.integers(0, 2**32 - 1),
    seen=st.frozensets(uris.map(seen_digest), max_size=20),
)


@given(cursors)
def test_a_cursor_comes_back_exactly_as_it_was(cursor: Cursor) -> None:
    assert read_cursor(write_cursor(cursor, search_digest=ASKED), search_digest=ASKED) == cursor


@given(cursors)
def test_a_cursor_stands_in_an_address_as_it_is(cursor: Cursor) -> None:
    assert set(write_cursor(cursor, search_digest=ASKED)) <= set(string.ascii_letters + string.digits + "-_")


@given(cursors, st.data())
def test_a_changed_or_cut_cursor_is_refused_in_three_lines(cursor: Cursor, data: st.DataObject) -> None:
    text = write_cursor(cursor, search_digest=ASKED)
    place = data.draw(st.integers(0, len(text) - 2))  # the last character may hold bits that mean nothing
    other = data.draw(st.sampled_from([c for c in string.ascii_letters + "-_ %\u00e9\0" if c != text[place]]))
    for damaged in (text[:place] + other + text[place + 1 :], text[:place], text + "AAAA"):
        with pytest.raises(CursorRefused) as refused:
            read_cursor(damaged, search_digest=ASKED)
        assert "cannot be read" in refused.value.what
        assert refused.value.why
        assert refused.value.next_step


@given(st.text(max_size=300))
def test_no_text_at_all_breaks_the_reading_of_a_cursor(text: str) -> None:
    with pytest.raises(CursorRefused):
        read_cursor(text, search_digest=ASKED)


@given(cursors, uris)
def test_the_cursor_of_another_question_is_refused_and_says_so(cursor: Cursor, text: str) -> None:
    other = digest_of(["text", text + "!", None])
    with pytest.raises(CursorRefused, match="belongs to another search"):
        read_cursor(write_cursor(cursor, search_digest=ASKED), search_digest=other)


def test_what_a_proxy_or_a_person_adds_around_a_cursor_does_not_matter() -> None:
    cursor = Cursor(distance=0.25, uri="a:b", shown=10)
    text = write_cursor(cursor, search_digest=ASKED)
    for written in (f" {text}\n", text + "=" * (-len(text) % 4)):
        assert read_cursor(written, search_digest=ASKED) == cursor


def test_the_longest_cursor_is_read_and_a_longer_text_is_not_even_decoded() -> None:
    seen = frozenset(seen_digest(str(number)) for number in range(MOST_SEEN))
    cursor = Cursor(distance=-1e-17, uri="u" * MAX_URI_BYTES, shown=3, seen=seen)
    assert read_cursor(write_cursor(cursor, search_digest=ASKED), search_digest=ASKED) == cursor
    with pytest.raises(CursorRefused):
        read_cursor("A" * 1_000_000, search_digest=ASKED)


def test_another_version_a_distance_that_is_none_and_a_uri_that_cannot_be_are_refused() -> None:
    def made(version: int, distance: float, uri: bytes, count: int = 0) -> str:
        content = struct.pack(">BIId8sH", version, 1, 0, distance, ASKED, count) + uri
        return base64.urlsafe_b64encode(content + struct.pack(">I", zlib.crc32(content))).decode()

    assert read_cursor(made(VERSION, 0.5, b"a"), search_digest=ASKED).uri == "a"
    assert read_cursor(made(VERSION, 0.5, b"abcdea", 1), search_digest=ASKED).seen == {b"abcde"}
    refused = (
        made(VERSION - 1, 0.5, b"a"), made(VERSION, math.nan, b"a"), made(VERSION, math.inf, b"a"),
        made(VERSION, 0.5, b"a\0b"), made(VERSION, 0.5, b"\xff"), made(VERSION, 0.5, b"abcd", 1),
        made(VERSION, 0.5, b"a" * 5006, 1001),
    )  # fmt: skip
    for text in refused:
        with pytest.raises(CursorRefused):
            read_cursor(text, search_digest=ASKED)


def test_questions_are_told_apart_by_every_part_and_by_its_kind() -> None:
    questions: list[list[str | bytes | float | None]] = [
        ["ab", "c"], ["a", "bc"], ["abc"], ["abc", None], [None, "abc"], [b"abc"], ["", "abc"], ["1"], [1.0], [1.5], [],
    ]  # fmt: skip
    assert len({digest_of(question) for question in questions}) == len(questions)
