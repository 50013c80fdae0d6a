"""How a query is read: what it wants, what it leaves out, and what PostgreSQL is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.articles.search.asked import MOST_WORDS, read


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("python windows", "python windows"),
        ("python -windows", "python -windows"),
        ('"memory leak" parser', '"memory leak" parser'),
        ('leak "memory pars', 'leak "memory pars"'),
        ("asyncio.Queue", '"asyncio Queue"'),
        ("python -asyncio.Queue", 'python -"asyncio Queue"'),
        ('-"a.b c" d', '-"a b c" d'),
        ("dev@example.org. a/b", '"dev example org" "a b"'),
        ("one OR two or or three or", "one OR two or three".replace("OR", "or")),
        ("or one", "one"),
        ('"or" (or) one', '"or" "or" one'),
        ("e-mail state-of-the-art", "e-mail state-of-the-art"),
        ("--help - -- -", "help"),
        ("-(-(-(x", "x"),
        ("- - - a", "a"),
        ("a&b !c (d|e)", '"a b" c "d e"'),
        ('a"b c"d', 'a "b c" d'),
        ('-"" "" a', "a"),
        ("?! ... \U0001f600", ""),
        ("nul\0ls \ud800", "nul ls"),
    ],
)
def test_a_query_is_written_anew_in_a_form_that_cannot_fail(text: str, query: str) -> None:
    assert read(text).query == query


@pytest.mark.parametrize(
    ("text", "wanted", "left_out"),
    [
        ("python windows", "python windows", None),
        ("python -windows", "python", "windows"),
        ("-windows python -mac", "python", "windows or mac"),
        ('leak -"memory leak" parser', "leak parser", '"memory leak"'),
        ('leak -"memory leak', "leak", '"memory leak"'),
        ("e-mail  state-of-the-art", "e-mail  state-of-the-art", None),
        ("a - b -- c --d", "a - b -- c --d", None),
        ("-windows", "", "windows"),
        ('-""', '-""', None),
        ("a -asyncio.Queue", "a", '"asyncio Queue"'),
    ],
)
def test_a_minus_before_a_word_leaves_it_out(text: str, wanted: str, left_out: str | None) -> None:
    asked = read(text)
    assert (asked.wanted, asked.left_out) == (wanted, left_out)


def test_of_a_long_query_the_first_words_are_looked_for() -> None:
    words = [f"w{number}" for number in range(MOST_WORDS + 1)]
    assert read(" ".join(words)).query == " ".join(words[:-1])
    assert read(" ".join(words)).is_cut
    assert not read(" ".join(words[:-1])).is_cut
    assert read(f'"{" ".join(words)}"').query == f'"{" ".join(words[:-1])}"'
    assert read("-".join(words)).query == "-".join(words[:-1])
    assert read("a,b;c:d" * 100).is_cut
    assert read("ten words " * 5 + "-left").query.count("-left") == 1


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    asked = read(text)
    assert asked.query.count('"') % 2 == 0
    assert "--" not in asked.query.replace('"', " ").split()
    assert read(asked.query).query == asked.query or asked.is_cut
