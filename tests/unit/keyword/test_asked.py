"""How a query is read: what it wants, what it leaves out, and what PostgreSQL is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.articles.search.request.parsed_query import MOST_WORDS, parse


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("python", "'python'"),
        ("python windows", "('python' & 'windows' | 'pythonwindows')"),
        ("a bb c dd", "'a' & 'bb' & 'c' & 'dd'"),
        ("python -windows", "'python' & !'windows'"),
        ('"memory leak" parser', "('memory' <-> 'leak') & 'parser'"),
        ('leak "memory pars', "'leak' & ('memory' <-> 'pars')"),
        ("asyncio.Queue", "('asyncio' <-> 'Queue')"),
        ("python -asyncio.Queue", "'python' & !('asyncio' <-> 'Queue')"),
        ('-"a.b c" d', "!('a' <-> 'b' <-> 'c') & 'd'"),
        ("dev@example.org. or a/b", "('dev' <-> 'example' <-> 'org') | (('a' <-> 'b') | 'ab')"),
        ("one OR two or or three or", "'one' | 'two' | 'three'"),
        ("or one", "'one'"),
        ('"or" (or) -one', "'or' & 'or' & !'one'"),
        ("e-mail", "(('e' <-> 'mail') | 'email')"),
        ("e mail", "('e' & 'mail' | 'email')"),
        ("covid19", "('covid19' | ('covid' <-> '19'))"),
        ("C++17 C#", "('Cplusplus' <-> '17') & 'Csharp'"),
        ("O'Reilly", "'O''Reilly'"),
        ("-5", "'5'"),
        ('-"5"', "!'5'"),
        ("-2024-03", "!(('2024' <-> '03') | '202403')"),
        (
            "\uff23\uff4f\uff56\uff49\uff44 Cafe\u0301 \u6d4b\u8bd5",
            "('Covid' & 'Caf\u00e9' | 'CovidCaf\u00e9') & ('\u6d4b' <-> '\u8bd5')",
        ),
        ("--help - -- -", "'help'"),
        ("-(-(-(x", "'x'"),
        ("- - - a", "'a'"),
        ("a&b !c", "(('a' <-> 'b') | 'ab') & 'c'"),
        ('a"b c"d', "'a' & ('b' <-> 'c') & 'd'"),
        ('-"" "" a', "'a'"),
        ("?! ... \U0001f600", ""),
        ("nul\0ls \ud800", "('nul' & 'ls' | 'nulls')"),
    ],
)
def test_a_query_is_written_anew_in_a_form_that_cannot_fail(text: str, query: str) -> None:
    assert parse(text).query == query


@pytest.mark.parametrize(
    ("text", "wanted", "left_out"),
    [
        ("python windows", "python windows", None),
        ("python -windows", "python", "'windows'"),
        ("-windows python -mac", "python", "'windows' | 'mac'"),
        ('leak -"memory leak" parser', "leak parser", "('memory' <-> 'leak')"),
        ('leak -"memory leak', "leak", "('memory' <-> 'leak')"),
        ("e-mail  state-of-the-art", "e-mail  state-of-the-art", None),
        ("a - b -- c --d", "a - b -- c --d", None),
        ("-windows", "", "'windows'"),
        ('-""', '-""', None),
        ("a -asyncio.Queue", "a", "('asyncio' <-> 'Queue')"),
    ],
)
def test_a_minus_before_a_word_leaves_it_out(text: str, wanted: str, left_out: str | None) -> None:
    asked = parse(text)
    assert (asked.wanted, asked.left_out, asked.may_be_widened) == (wanted, left_out, left_out is None)


def test_of_a_long_query_the_first_words_are_looked_for() -> None:
    words = [f"w{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(MOST_WORDS + 1)]
    quoted = [f"'{word}'" for word in words]
    assert parse(" ".join(words)).query == " & ".join(quoted[:-1])
    assert parse(" ".join(words)).is_cut
    assert not parse(" ".join(words[:-1])).is_cut
    assert parse(f'"{" ".join(words)}"').query == f"({' <-> '.join(quoted[:-1])})"
    assert f"({' <-> '.join(quoted[:-1])})" in parse("-".join(words)).query
    assert parse("a,b;c:d" * 100).is_cut
    assert parse("\u6d4b" * (MOST_WORDS + 8)).query.count("<->") == MOST_WORDS - 1
    assert parse("ten words " * 5 + "-left").query.count("!'left'") == 1


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    asked = parse(text)
    assert asked.query.count("'") % 2 == 0
    assert asked.query.count("(") >= asked.query.count(" <-> ") // MOST_WORDS
    assert not asked.query.startswith(("&", "|"))
    assert not asked.query.endswith(("&", "|", "!"))
