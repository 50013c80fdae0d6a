"""SQLAlchemy's own words: Index objects of a MetaData as declarations, and declarations as Index objects."""

from __future__ import annotations

from typing import Any

import pytest
from pgvector.sqlalchemy import BIT, HALFVEC, SPARSEVEC, VECTOR
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, cast, create_mock_engine, func, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import BIT as PG_BIT
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeDecorator

from everindex.alembic_kit.metadata import index_of, spec_of, specs_of
from everindex.errors import SpecIllegal
from everindex.index.spec import BuildPolicy, IndexSpec

HALF = {"opclass": "halfvec_cosine_ops", "dimensions": 64}
BITS = {"opclass": "bit_hamming_ops", "dimensions": 64}


def table(*indexes: Index, width: int | None = 64, kind: Any = VECTOR, **options: Any) -> Table:
    return Table(
        "items",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("topic", String(40)),
        Column("embedding", kind(width)),
        *indexes,
        **options,
    )


def declared(*expressions: Any, kind: Any = VECTOR, width: int | None = 64, **options: Any) -> IndexSpec:
    options = {"postgresql_using": "hnsw", "postgresql_ops": {"embedding": "vector_cosine_ops"}, **options}
    index = Index("i", *expressions, **options)
    table(index, kind=kind, width=width)
    spec = spec_of(index)
    assert spec is not None
    return spec


def spec(**fields: Any) -> IndexSpec:
    return IndexSpec(**{"name": "i", "table": "items", "column": "embedding", **fields})


def test_a_plain_column_is_declared_as_pgvector_documents_it() -> None:
    assert declared("embedding", postgresql_with={"m": 8, "ef_construction": 32}) == spec(m=8, ef_construction=32)


def test_an_orm_class_declares_too() -> None:
    class Base(DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = "items"
        id: Mapped[int] = mapped_column(primary_key=True)
        vector: Mapped[Any] = mapped_column("embedding", VECTOR(64))

    Index("i", Item.vector, postgresql_using="hnsw", postgresql_ops={"embedding": "vector_l2_ops"})
    assert specs_of(Base.metadata) == (spec(opclass="vector_l2_ops"),)


@pytest.mark.parametrize(
    "expression",
    [
        text("(embedding::halfvec(64)) halfvec_cosine_ops"),
        text("((embedding)::halfvec(64)) halfvec_cosine_ops"),
        text("(embedding :: public.halfvec(64)) public.halfvec_cosine_ops"),
        text('("embedding"::halfvec(64)) halfvec_cosine_ops'),
        text("(CAST(embedding AS halfvec(64))) halfvec_cosine_ops"),
        text("(EMBEDDING::HALFVEC(64)) halfvec_cosine_ops"),
    ],
    ids=str,
)
def test_a_cast_to_halfvec_in_a_text_is_the_column_as_halfvec(expression: Any) -> None:
    assert declared(expression, postgresql_ops={}) == spec(**HALF)


@pytest.mark.parametrize("make_cast", [func.cast, cast])
def test_a_labelled_cast_is_the_column_as_halfvec_or_bits(make_cast: Any) -> None:
    items = table()
    key = make_cast(items.c.embedding, HALFVEC(64)).label("half")
    Index("i", key, postgresql_using="hnsw", postgresql_ops={"half": "halfvec_cosine_ops"})
    for bit in (BIT, PG_BIT):
        key = make_cast(func.binary_quantize(items.c.embedding), bit(64)).label("bits")
        Index(f"i_{bit.__module__[0]}", key, postgresql_using="hnsw", postgresql_ops={"bits": "bit_hamming_ops"})
    assert specs_of(items.metadata) == (spec(**HALF), spec(name="i_p", **BITS), spec(name="i_s", **BITS))


@pytest.mark.parametrize(
    "expression",
    [
        text("(binary_quantize(embedding)::bit(64)) bit_hamming_ops"),
        text("((binary_quantize(embedding))::bit(64)) bit_hamming_ops"),
        text("(CAST(public.binary_quantize(embedding) AS BIT(64))) bit_hamming_ops"),
    ],
    ids=str,
)
def test_sign_bits_in_a_text_are_the_column_as_bits(expression: Any) -> None:
    assert declared(expression, postgresql_ops={}) == spec(**BITS)


def test_a_text_may_name_the_plain_column() -> None:
    assert declared(text("embedding vector_cosine_ops"), postgresql_ops={}) == spec()


@pytest.mark.parametrize(("kind", "opclass"), [(HALFVEC, "halfvec_l2_ops"), (BIT, "bit_jaccard_ops")])
def test_columns_of_the_other_types_are_indexed_as_they_are(kind: Any, opclass: str) -> None:
    found = declared("embedding", kind=kind, postgresql_ops={"embedding": opclass})
    assert found == spec(opclass=opclass)


def test_a_vector_type_inside_of_a_decorator_is_known() -> None:
    class Normalized(TypeDecorator[Any]):
        impl = VECTOR
        cache_ok = True

    assert declared("embedding", kind=Normalized) == spec()


def test_any_other_expression_is_kept_as_its_sql() -> None:
    items = table()
    part = cast(func.subvector(items.c.embedding, 1, 8), VECTOR(8)).label("part")
    Index("i", part, postgresql_using="hnsw", postgresql_ops={"part": "vector_l2_ops"})
    (found,) = specs_of(items.metadata)
    assert found.column is None
    assert found.expression == "CAST(subvector(embedding, 1, 8) AS VECTOR(8))"
    told = text("(subvector(embedding, 1, 8)::vector(8)) vector_l2_ops")
    assert declared(told, postgresql_ops={}).expression == "subvector(embedding, 1, 8)::vector(8)"


def test_a_predicate_is_kept_as_its_sql_with_its_values_in_it() -> None:
    items = table()
    where = (items.c.topic == "100% o'clock :x") & (items.c.id % 7 == 3)
    index = Index(
        "i",
        items.c.embedding,
        postgresql_using="hnsw",
        postgresql_ops={"embedding": "vector_cosine_ops"},
        postgresql_where=where,
    )
    found = spec_of(index)
    assert found is not None
    assert found.predicate == "topic = '100% o''clock :x' AND id % 7 = 3"
    assert declared("embedding", postgresql_where=text("topic = 'a' AND id::text <> ''")).predicate == (
        "topic = 'a' AND id::text <> ''"
    )


def test_what_sqlalchemy_has_no_word_for_is_in_info() -> None:
    info = {"everindex": {"recall_floor": 0.9, "build": {"give_up_after_seconds": 60}}}
    assert declared("embedding", info=info) == spec(recall_floor=0.9, build=BuildPolicy(give_up_after_seconds=60.0))


def test_other_indexes_and_those_left_to_alembic_are_not_ours() -> None:
    ops = {"embedding": "vector_l2_ops"}
    items = table(
        Index("btree", "topic"),
        Index("lists", "embedding", postgresql_using="ivfflat", postgresql_ops=ops),
        Index("left", "embedding", postgresql_using="hnsw", postgresql_ops=ops, info={"everindex": False}),
    )
    assert specs_of(items.metadata) == ()


def test_several_metadata_and_schemas_are_read_in_the_order_of_their_names() -> None:
    ops = {"postgresql_using": "hnsw", "postgresql_ops": {"embedding": "vector_l2_ops"}}
    first = table(Index("b", "embedding", **ops), Index("a", "embedding", **ops), schema="other")
    second = table(Index("c", "embedding", **ops))
    found = specs_of([first.metadata, second.metadata], default_schema="app")
    assert [(spec.schema, spec.name) for spec in found] == [("app", "c"), ("other", "a"), ("other", "b")]


def test_a_name_comes_of_the_naming_convention_and_is_cut_as_sqlalchemy_cuts_it() -> None:
    metadata = MetaData(naming_convention={"ix": "vec_%(table_name)s_%(column_0_name)s"})
    for name in ("items", "t" * 60):
        items = Table(name, metadata, Column("embedding", VECTOR(3)))
        Index(None, items.c.embedding, postgresql_using="hnsw", postgresql_ops={"embedding": "vector_l2_ops"})
    found = {spec.table: spec.name for spec in specs_of(metadata)}
    assert found["items"] == "vec_items_embedding"
    assert len(found["t" * 60]) < 64
    for items in metadata.tables.values():
        (index,) = items.indexes
        assert f"CREATE INDEX {found[items.name]} ON" in str(CreateIndex(index).compile(dialect=postgresql.dialect()))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"postgresql_ops": {}}, "no operator class for embedding"),
        ({"postgresql_ops": {"other": "vector_l2_ops"}}, "no operator class for embedding"),
        ({"postgresql_ops": {"embedding": "sparsevec_l2_ops"}}, "sparsevec_l2_ops"),
        ({"postgresql_with": {"lists": 100}}, "postgresql_with has 'lists'"),
        ({"postgresql_with": {"m": "many"}}, "its m is 'many'"),
        ({"postgresql_with": {"m": 1}}, "m = 1"),
        ({"postgresql_with": {"m": 40}}, "ef_construction = 64 with m = 40"),
        ({"unique": True}, "it has unique"),
        ({"postgresql_include": ["id"]}, "it has postgresql_include"),
        ({"postgresql_tablespace": "fast"}, "it has postgresql_tablespace"),
        ({"info": {"everindex": {"recal_floor": 0.9}}}, "unknown recal_floor"),
        ({"info": {"everindex": {"build": {"timeout": 1}}}}, r"unknown key build\.timeout"),
        ({"info": {"everindex": {"recall_floor": "high"}}}, "recall_floor is the text 'high'"),
        ({"info": {"everindex": "no"}}, "'no'"),
        ({"width": 2001}, "2001 dimensions"),
        ({"width": None}, "no fixed dimensions"),
        ({"kind": HALFVEC}, "opclass vector_cosine_ops is of type vector, but column embedding is a halfvec"),
        ({"kind": SPARSEVEC, "postgresql_ops": {"embedding": "sparsevec_l2_ops"}}, "sparsevec_l2_ops"),
    ],
)
def test_an_index_that_no_server_could_build_is_refused_by_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecIllegal, match=told) as refused:
        declared("embedding", **options)
    assert "index 'i' cannot be declared" in refused.value.what


def test_two_columns_and_a_cast_to_another_width_are_refused() -> None:
    with pytest.raises(SpecIllegal, match="it has 2 columns"):
        declared("embedding", "topic")
    with pytest.raises(SpecIllegal, match="casts to 32 dimensions, but column embedding has 64") as refused:
        declared(text("(embedding::halfvec(32)) halfvec_l2_ops"))
    assert "subvector(embedding, 1, 32)::vector(32)" in refused.value.next_step


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"m": 24, "ef_construction": 200, "recall_floor": 0.9},
        {"opclass": "halfvec_l2_ops", "dimensions": 64},
        {"opclass": "bit_jaccard_ops", "dimensions": 64},
        {"predicate": "topic = 'a:b' AND id::text <> ':x'"},
        {"build": BuildPolicy(keep_previous_seconds=0, memory_share=0.25)},
        {"column": None, "expression": "subvector(embedding, 1, 8)::vector(8)"},
    ],
    ids=str,
)
def test_a_spec_as_an_index_reads_back_as_it_was(fields: dict[str, Any]) -> None:
    original = spec(**fields)
    items = table()
    assert spec_of(index_of(original, items)) == original
    assert spec_of(next(iter(table(index_of(original)).indexes))) == original


def test_an_index_of_a_spec_has_the_ddl_that_builds_it() -> None:
    statements: list[str] = []
    engine = create_mock_engine(
        "postgresql+psycopg://", lambda ddl, *_, **__: statements.append(str(ddl.compile(dialect=engine.dialect)))
    )
    items = table()
    index_of(spec(**BITS, predicate="topic = 'news'"), items)
    items.metadata.create_all(engine, checkfirst=False)
    assert statements[-1] == (
        'CREATE INDEX i ON items USING hnsw ((binary_quantize("embedding")::bit(64)) bit_hamming_ops) '
        "WITH (m = 16, ef_construction = 64) WHERE topic = 'news'"
    )
