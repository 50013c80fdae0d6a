"""Declarations without SQLAlchemy: JSON objects and rows, and what is refused of them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everindex.errors import SourceUnreadable, SpecIllegal
from everindex.index.spec import OPCLASSES, BuildPolicy, IndexSpec
from everindex.index.spec_json import from_json, from_row, read_declarations, to_json

PLAIN = {"name": "i", "table": "t", "column": "e"}


def test_the_least_declaration_has_the_defaults_of_the_spec() -> None:
    assert from_json(PLAIN) == (IndexSpec(name="i", table="t", column="e"),)


def test_every_word_of_the_spec_is_a_key() -> None:
    document = {
        "name": "i",
        "schema": "s",
        "table": "t",
        "column": "e",
        "expression": "subvector(e, 1, 8)::vector(8)",
        "type": "vector",
        "opclass": "vector_l2_ops",
        "m": 8,
        "ef_construction": 32,
        "predicate": "topic = 'news'",
        "dimensions": 8,
        "recall_floor": 0.9,
        "build": {
            "give_up_after_seconds": 3600,
            "wait_for_transactions_seconds": 60,
            "keep_previous_seconds": 0,
            "memory_share": 0.25,
        },
    }
    assert from_json(document) == (
        IndexSpec(
            name="i",
            schema="s",
            table="t",
            column="e",
            expression="subvector(e, 1, 8)::vector(8)",
            opclass="vector_l2_ops",
            m=8,
            ef_construction=32,
            predicate="topic = 'news'",
            dimensions=8,
            recall_floor=0.9,
            build=BuildPolicy(
                give_up_after_seconds=3600,
                wait_for_transactions_seconds=60,
                keep_previous_seconds=0,
                memory_share=0.25,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("kind", "opclass"),
    [("vector", "vector_cosine_ops"), ("halfvec", "halfvec_cosine_ops"), ("bit", "bit_hamming_ops")],
)
def test_a_type_without_an_opclass_takes_the_usual_one(kind: str, opclass: str) -> None:
    assert from_row({**PLAIN, "type": kind}).opclass == opclass


def test_a_row_with_empty_columns_and_numbers_of_the_database_is_a_declaration() -> None:
    row = {**PLAIN, "expression": None, "m": None, "recall_floor": Decimal("0.97"), "build": None}
    assert from_row(row) == IndexSpec(name="i", table="t", column="e", recall_floor=0.97)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"efconstruction": 64}, r"unknown key efconstruction"),
        ({"lists": 10, "probes": 1}, r"unknown keys lists, probes"),
        ({"build": {"timeout": 1}}, r"unknown key build\.timeout"),
        ({"build": 3600}, r"build is the number 3600"),
        ({"build": {"give_up_after_seconds": "1h"}}, r"build\.give_up_after_seconds is the text '1h'"),
        ({"build": {"give_up_after_seconds": -1}}, r"build\.give_up_after_seconds is -1"),
        ({"m": "16"}, r"m is the text '16'"),
        ({"m": True}, r"m is true"),
        ({"m": 16.5}, r"m is the number 16.5"),
        ({"ef_construction": [64]}, r"ef_construction is a list"),
        ({"recall_floor": "high"}, r"recall_floor is the text 'high'"),
        ({"recall_floor": float("nan")}, r"recall_floor is the number nan"),
        ({"table": 7}, r"table is the number 7"),
        ({"table": None}, r"has no table"),
        ({"type": "sparsevec"}, r"type is 'sparsevec'"),
        ({"type": "halfvec", "opclass": "vector_l2_ops"}, r"type is halfvec and its opclass vector_l2_ops"),
        ({"column": None}, r"neither a column nor an expression"),
        ({"m": 200}, r"m = 200"),
        ({"dimensions": 2001}, r"2001 dimensions"),
        ({"opclass": "vector_hamming_ops"}, r"vector_hamming_ops"),
        ({"name": "i__next"}, r"__next"),
    ],
)
def test_what_is_wrong_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecIllegal, match=told) as refused:
        from_json({**PLAIN, **change})
    assert "'i" in refused.value.what  # the index that it is about


def test_the_known_keys_are_told_where_one_is_unknown() -> None:
    with pytest.raises(SpecIllegal) as refused:
        from_json({**PLAIN, "ef": 64})
    assert "ef_construction" in refused.value.why


@pytest.mark.parametrize("document", ["text", 5, None, True])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(SpecIllegal, match="the declaration cannot be declared"):
        from_json(document)


def test_the_place_in_a_list_is_told_where_there_is_no_name() -> None:
    with pytest.raises(SpecIllegal, match="declaration 2 cannot"):
        from_json([PLAIN, {"table": "t"}])


def test_a_name_declared_twice_is_refused_but_not_in_two_schemas() -> None:
    assert len(from_json([PLAIN, {**PLAIN, "schema": "other"}])) == 2
    with pytest.raises(SpecIllegal, match=r"public\.i is declared twice"):
        from_json([PLAIN, {**PLAIN, "table": "elsewhere"}])


def test_a_file_holds_one_declaration_or_a_list_of_them(tmp_path: Path) -> None:
    file = tmp_path / "declared.json"
    file.write_text(json.dumps(PLAIN), encoding="utf-8")
    one = read_declarations(file)
    file.write_text("\ufeff" + json.dumps([PLAIN]), encoding="utf-8")
    assert read_declarations(file) == one == from_json(PLAIN)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "codec can't decode"),
        (b'{"name": "i", "name": "j", "table": "t", "column": "e"}', "'name' appears twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_so(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "declared.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SourceUnreadable) as refused:
        read_declarations(file)
    assert told in refused.value.why


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15)


@given(
    name=names,
    table=names,
    column=st.none() | names,
    expression=st.just("subvector(e, 1, 8)::vector(8)") | st.none(),
    predicate=st.none() | st.just("x > 1"),
    opclass=st.sampled_from(sorted(OPCLASSES)),
    m=st.integers(2, 100),
    dimensions=st.none() | st.integers(1, 2000),
    recall_floor=st.floats(0.01, 1.0),
    build=st.builds(
        BuildPolicy,
        give_up_after_seconds=st.none() | st.floats(0, 1e6),
        keep_previous_seconds=st.floats(0, 1e6),
        memory_share=st.floats(0.01, 1.0),
    ),
)
def test_a_declaration_written_as_json_reads_back_as_it_was(m: int, **fields: Any) -> None:
    if fields["column"] is None and fields["expression"] is None:
        fields["column"] = "e"
    spec = IndexSpec(m=m, ef_construction=2 * m, **fields)
    assert from_json(json.loads(json.dumps(to_json(spec)))) == (spec,)
