"""Where statements end and what their placeholders are, in every way that a driver writes them."""

from __future__ import annotations

import pytest

from everindex.errors import StatementNotCheckable
from everindex.statement_check.script import one_checkable
from everindex.statement_check.text import statements, tokens


@pytest.mark.parametrize(
    ("text", "numbered", "names"),
    [
        ("SELECT %s, %s", "SELECT $1, $2", ("1", "2")),
        ("SELECT a<=>%s FROM t LIMIT %b", "SELECT a<=>$1 FROM t LIMIT $2", ("1", "2")),
        ("SELECT %(v)s, %(k)s, %(v)s", "SELECT $1, $2, $1", ("v", "k")),
        ("SELECT 'a%%' LIKE %s AND 5 %% 2 = 1", "SELECT 'a%' LIKE $1 AND 5 % 2 = 1", ("1",)),
        ("SELECT 5 % 2, '%s'", "SELECT 5 % 2, '%s'", ()),
        ("SELECT $2, $1", "SELECT $2, $1", ("1", "2")),
        ("SELECT :v::vector, :k", "SELECT $1::vector, $2", ("v", "k")),
        ("SELECT a::text, b[1:2], f(x := 1), '12:30' FROM t", "SELECT a::text, b[1:2], f(x := 1), '12:30' FROM t", ()),
        ("SELECT now() - interval ':x', :x", "SELECT now() - interval ':x', $1", ("x",)),
        ("SELECT a FROM t ORDER BY e <=> ? LIMIT ?", "SELECT a FROM t ORDER BY e <=> $1 LIMIT $2", ("1", "2")),
        ("SELECT d ? 'key' FROM t WHERE a = ?", "SELECT d ? 'key' FROM t WHERE a = $1", ("1",)),
        ("SELECT d ?| ARRAY['a'], d ?& b, d @? '$.x' FROM t", "SELECT d ?| ARRAY['a'], d ?& b, d @? '$.x' FROM t", ()),
        ("SELECT d ?? 'key' FROM t WHERE a IN (?, ?)", "SELECT d ? 'key' FROM t WHERE a IN ($1, $2)", ("1", "2")),
        ("SELECT a FROM t WHERE b = @topic LIMIT @k", "SELECT a FROM t WHERE b = $1 LIMIT $2", ("topic", "k")),
        ("SELECT v @@ q, a @> b FROM t", "SELECT v @@ q, a @> b FROM t", ()),
        ('SELECT "a:b", $$ :x %s ? $$, $q$ ; :y $q$', 'SELECT "a:b", $$ :x %s ? $$, $q$ ; :y $q$', ()),
        ("SELECT 1 -- :x %s\n, 2 /* :y /* ? */ %s */", "SELECT 1 -- :x %s\n, 2", ()),
        ("SELECT E'it\\'s :x', 'it''s :y', :z", "SELECT E'it\\'s :x', 'it''s :y', $1", ("z",)),
    ],
)
def test_placeholders_of_every_driver_become_numbered_parameters(
    text: str, numbered: str, names: tuple[str, ...]
) -> None:
    found = one_checkable(text)
    assert found.numbered == numbered
    assert found.parameters == names


def test_statements_are_split_outside_of_quotes_and_comments_only() -> None:
    text = (
        "-- name: first^\nSELECT ';' AS a; ;\n"
        "/* ; /* ; */ ; */ SELECT $x$ ; $x$;\n\n-- not a name\n-- name: third :many\nSELECT \"a;b\" -- ;\n, E'\\';'\n;"
    )
    found = statements(text)
    assert [(statement.name, statement.line) for statement in found] == [("first", 2), (None, 3), ("third", 7)]
    assert found[0].text == "SELECT ';' AS a"
    assert found[1].text == "SELECT $x$ ; $x$"
    assert found[2].text == "SELECT \"a;b\" -- ;\n, E'\\';'"


def test_tokens_leave_nothing_out_even_of_broken_text() -> None:
    for text in ("SELECT 'open", '"open', "/* open /* ", "$a$ open", "\x00é€ SELECT", "a$1$b", "1.5e3..2", "'it''"):
        assert "".join(token.text for token in tokens(text)) == text


@pytest.mark.parametrize(
    ("text", "says"), [("", "nothing to check"), ("-- only\n;;", "nothing"), ("SELECT 1; SELECT 2", "2 ")]
)
def test_one_checkable_is_demanded(text: str, says: str) -> None:
    with pytest.raises(StatementNotCheckable, match=says):
        one_checkable(text)
