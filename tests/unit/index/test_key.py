"""What an index holds, as SQL and as the catalog prints it: pure functions of declaration and observation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.errors import ColumnMismatch
from everindex.index.catalog.key import is_key, is_predicate, key_sql
from everindex.index.catalog.observed import Observed
from everindex.index.spec import IndexSpec

SPEC = IndexSpec(name="i", table="t", column="e")
HALFVEC = replace(SPEC, opclass="halfvec_cosine_ops")
BIT = replace(SPEC, opclass="bit_hamming_ops")
OBSERVED = Observed(table_exists=True, column_type="vector", dimensions=8, extension_schema="extensions")


def sql_of(spec: IndexSpec, *, column_type: str = "vector", extension_schema: str | None = None) -> str:
    return key_sql(spec, column_type=column_type, dimensions=8, extension_schema=extension_schema).as_string(None)


def test_a_column_of_the_opclasss_type_is_indexed_as_it_is() -> None:
    assert sql_of(SPEC) == '"e"'
    assert sql_of(HALFVEC, column_type="halfvec") == '"e"'
    assert sql_of(BIT, column_type="bit") == '"e"'


def test_what_is_derived_of_a_column_is_qualified_with_the_extensions_schema() -> None:
    assert sql_of(HALFVEC) == '("e"::halfvec(8))'
    assert sql_of(HALFVEC, extension_schema="my ext") == '("e"::"my ext".halfvec(8))'
    assert sql_of(BIT, extension_schema="x") == '("x".binary_quantize("e")::bit(8))'
    assert sql_of(BIT, column_type="halfvec") == '(binary_quantize("e")::bit(8))'


def test_an_expression_is_taken_as_it_was_written() -> None:
    assert sql_of(replace(SPEC, expression="f(e)")) == "(f(e))"


@pytest.mark.parametrize(("spec", "column_type"), [(SPEC, "halfvec"), (SPEC, "text"), (HALFVEC, "bit"), (BIT, "text")])
def test_an_impossible_cast_is_told_with_both_types(spec: IndexSpec, column_type: str) -> None:
    with pytest.raises(ColumnMismatch, match=f"type {column_type}") as raised:
        sql_of(spec, column_type=column_type)
    assert spec.opclass in raised.value.why


@pytest.mark.parametrize(
    ("spec", "printed"),
    [
        (HALFVEC, "(e)::halfvec(8)"),
        (HALFVEC, "((e)::extensions.halfvec(8))"),
        (BIT, "(binary_quantize(e))::bit(8)"),
        (BIT, "(extensions.binary_quantize(e))::bit(8)"),
        (replace(HALFVEC, column="My e"), '("My e")::halfvec(8)'),
    ],
)
def test_a_derived_key_is_known_in_each_way_in_which_postgresql_prints_it(spec: IndexSpec, printed: str) -> None:
    assert is_key(spec, OBSERVED, column=None, expression=printed)


@pytest.mark.parametrize(
    ("spec", "printed"),
    [
        (HALFVEC, "(e)::halfvec(7)"),
        (HALFVEC, "(f)::halfvec(8)"),
        (HALFVEC, "(other.e)::halfvec(8)"),
        (replace(HALFVEC, column="My e"), '("Mye")::halfvec(8)'),
        (BIT, "(binary_quantize(e))::bit(16)"),
        (SPEC, "(e)::vector(8)"),
        (HALFVEC, None),
    ],
)
def test_another_key_is_not_taken_for_it(spec: IndexSpec, printed: str | None) -> None:
    assert not is_key(spec, OBSERVED, column=None, expression=printed)


def test_the_canonical_text_decides_where_the_server_gave_one() -> None:
    spec = replace(SPEC, predicate="a=1")
    asked = replace(OBSERVED, canonical_predicate="(a = 1)")
    assert is_predicate(spec, asked, "(a = 1)")
    assert not is_predicate(spec, asked, "(a = 1::bigint)")
    assert not is_predicate(spec, asked, None)
    assert not is_predicate(SPEC, asked, "(a = 1)")
    assert is_predicate(SPEC, asked, None)


@pytest.mark.parametrize(
    ("declared", "printed"),
    [
        ("topic = 'news'", "(topic = 'news'::text)"),
        ("Topic='News'", "(topic = 'News'::character varying)"),
        ("n > 1 AND topic='x'", "((n > 1) AND (topic = 'x'::text))"),
        ('"My n" IS NOT NULL', '("My n" IS NOT NULL)'),
    ],
)
def test_without_the_servers_word_what_it_adds_in_printing_does_not_count(declared: str, printed: str) -> None:
    assert is_predicate(replace(SPEC, predicate=declared), OBSERVED, printed)


@pytest.mark.parametrize(
    ("declared", "printed"),
    [
        ("topic = 'news'", "(topic = 'News'::text)"),
        ("topic = 'a b'", "(topic = 'ab'::text)"),
        ("n > 1", "(n > 2)"),
        ('"My n" > 1', '("my n" > 1)'),
    ],
)
def test_without_the_servers_word_names_and_constants_still_count(declared: str, printed: str) -> None:
    assert not is_predicate(replace(SPEC, predicate=declared), OBSERVED, printed)


@given(st.text(alphabet="""ab (")'::1""", min_size=1).filter(str.strip))
def test_every_text_is_itself_whatever_is_quoted_or_open_in_it(text: str) -> None:
    spec = replace(SPEC, predicate=text)
    assert is_predicate(spec, OBSERVED, text)
    assert is_predicate(spec, replace(OBSERVED, canonical_predicate=text), text)
