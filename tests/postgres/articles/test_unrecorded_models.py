"""Vectors that somebody else wrote: until their model is declared, nothing is compared with them and none is made beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import Vector
from pgvector.psycopg import register_vector

from by_hand import change
from embeddings_endpoint import vector_of
from everindex.articles.embedding import StaticEmbedder
from everindex.articles.embedding.isometry import orthonormal_map
from everindex.articles.embedding.static import MODEL_DIMENSIONS
from everindex.articles.embedding.text_forms import TEXT_FORMS
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.table_models import known_model, read_table_models
from everindex.errors import (
    DeclarationRefused,
    EmbeddingModelUnrecorded,
    EmbeddingModelUnusable,
)

WIDTH = 1536
STATIC = StaticEmbedder(width=WIDTH).model
DROP_RECORDS = "DROP SCHEMA everindex_meta CASCADE"
WORDS = (
    "tiger",
    "zebra",
    "lemon",
    "piano",
    "rocket",
    "violin",
    "canyon",
    "walnut",
    "falcon",
    "meadow",
    "harbour",
    "candle",
)


@pytest.fixture
def fresh(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """An open instance without articles."""
    return open_instance(migrated, EVERINDEX_POOL_SIZE=2)


def texts(count: int) -> list[tuple[str, str, str]]:
    """uri, title, summary; all different."""
    return [
        (f"u{n}", f"the {WORDS[n % 12]} and the {WORDS[(n * 5 + 1) % 12]}", f"a {WORDS[(n * 7 + 3) % 12]} number {n}")
        for n in range(count)
    ]


def store_as_another_program(
    instance: Instance, count: int = 12, *, vector: Callable[[str, str, str], np.ndarray | None]
) -> None:
    """Rows with vectors, by SQL; nothing is recorded."""
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        register_vector(connection)
        for uri, title, summary in texts(count):
            made = vector(uri, title, summary)
            connection.execute(
                "INSERT INTO articles (uri, title, summary, embedding) VALUES (%s, %s, %s, %s)",
                (uri, title, summary, None if made is None else Vector(made)),
            )
    instance.invalidate()


def foreign(uri: str, title: str, summary: str) -> np.ndarray:
    return vector_of(uri, WIDTH)


def static(form: str = "title and summary") -> Callable[[str, str, str], np.ndarray]:
    embedder = StaticEmbedder(width=WIDTH)
    return lambda uri, title, summary: embedder.embed([TEXT_FORMS[form](title, summary)]).vectors[0]


def ask(instance: Instance, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def vectors_in(instance: Instance) -> dict[str, str | None]:
    return dict(ask(instance, "SELECT uri, embedding::text FROM articles"))  # type: ignore[arg-type]


# --- until it is declared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["there", "dropped"])
@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
def test_a_text_is_searched_by_words_and_the_answer_says_so(fresh: Instance, schema: str, mode: Any) -> None:
    if schema == "dropped":
        change(fresh, DROP_RECORDS)
    store_as_another_program(fresh, vector=foreign)
    answer = fresh.search("tiger", mode=mode, k=5)
    assert answer.strategy == "keyword"
    assert all("tiger" in f"{hit.title} {hit.summary}" for hit in answer.hits)
    assert answer.hits
    assert "embedding-model-unrecorded" in answer.notices[0]
    assert "everindex model declare" in answer.notices[0]
    many = fresh.search_many(["tiger", vector_of("u3", WIDTH)], k=3)
    assert (many[0].strategy, many[1].hits[0].uri) == ("keyword", "u3")
    with pytest.raises(EmbeddingModelUnrecorded):
        fresh.search("tiger", mode="semantic", min_similarity=0.5)
    with pytest.raises(EmbeddingModelUnrecorded):
        fresh.search("the and", mode="hybrid")


def test_similar_articles_and_ready_vectors_go_on(fresh: Instance) -> None:
    store_as_another_program(fresh, vector=foreign)
    assert len(fresh.similar("u1", k=3).hits) == 3
    assert fresh.search_vector(vector_of("u7", WIDTH), k=1).hits[0].uri == "u7"


def test_nothing_is_embedded_beside_such_vectors_and_none_is_overwritten(fresh: Instance) -> None:
    store_as_another_program(fresh, vector=foreign)
    before = vectors_in(fresh)
    report = fresh.upsert(
        [{"uri": "u1", "title": "another title"}, {"uri": "new", "title": "a new one"}, {"uri": "u2", "category": "c"}]
    )
    assert (report.without_vector, report.kept_vectors) == (1, 1)
    assert "everindex model declare" in (report.next_step or "")
    fresh.import_rows([Article(uri="imported", title="tiger")])
    with pytest.raises(EmbeddingModelUnrecorded):
        fresh.embed_missing()
    assert vectors_in(fresh) == before | {"new": None, "imported": None}
    assert fresh.article("u1").title == "another title"
    assert ask(fresh, "SELECT count(*) FROM everindex_meta.embedding_record") == [(0,)]
    assert ask(fresh, "SELECT uri FROM everindex_meta.embedding_failure ORDER BY uri") == [("imported",), ("new",)]


def test_of_a_row_that_is_recorded_a_changed_text_still_loses_its_vector(fresh: Instance) -> None:
    fresh.upsert([{"uri": "ours", "title": "tiger"}])
    store_as_another_program(fresh, vector=foreign)
    fresh.upsert([{"uri": "ours", "title": "lemon"}])
    assert vectors_in(fresh)["ours"] is None


def test_a_column_that_no_model_of_ours_fills_stores_texts_and_is_searched_by_words(fresh: Instance) -> None:
    change(fresh, "ALTER TABLE articles ALTER COLUMN embedding TYPE vector(100)")
    store_as_another_program(fresh, vector=lambda uri, title, summary: vector_of(uri, width=100))
    assert fresh.upsert([{"uri": "new", "title": "tiger"}]).without_vector == 1
    for mode in ("hybrid", "semantic"):
        answer = fresh.search("tiger", mode=mode)  # type: ignore[arg-type]
        assert answer.strategy == "keyword"
        assert "new" in {hit.uri for hit in answer.hits}
    with pytest.raises(EmbeddingModelUnusable):
        fresh.declare_model("static")


def test_a_role_that_may_not_read_the_records_is_told_the_grant(
    fresh: Instance, open_instance: Callable[..., Instance]
) -> None:
    fresh.upsert([{"uri": "a", "title": "tiger"}, {"uri": "b", "title": "lemon"}])
    role = f"reader_{abs(hash(fresh.conninfo)) % 10**9}"
    change(fresh, f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        reader = open_instance(psycopg.conninfo.make_conninfo(fresh.conninfo, user=role), EVERINDEX_POOL_SIZE=2)
        answer = reader.search("tiger")
        assert [hit.uri for hit in answer.hits] == ["a"]
        grant = answer.notices[0].partition("run  ")[2]
        assert grant.startswith(f'GRANT USAGE ON SCHEMA everindex_meta TO "{role}"')
        change(fresh, *grant.split(";")[:2])
        reader.invalidate()
        assert reader.search("tiger", mode="semantic").strategy != "keyword"
        reader.close()
    finally:
        change(fresh, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_where_nothing_can_be_recorded_texts_are_stored_and_an_administrator_is_told_what_to_run(
    fresh: Instance, open_instance: Callable[..., Instance]
) -> None:
    role = f"writer_{abs(hash(fresh.conninfo)) % 10**9}"
    change(fresh, DROP_RECORDS, f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        writer = open_instance(psycopg.conninfo.make_conninfo(fresh.conninfo, user=role), EVERINDEX_POOL_SIZE=2)
        report = writer.upsert([{"uri": "a", "title": "tiger"}])
        assert (report.stored.inserted, report.without_vector) == (1, 1)
        assert [hit.uri for hit in writer.search("tiger").hits] == ["a"]
        statement = (report.next_step or "").partition("run  ")[2].partition(";")[0]
        change(fresh, statement)
        writer.invalidate()
        assert writer.embed_missing().stored.updated == 1
        assert writer.search("tiger", mode="semantic").hits[0].uri == "a"
        writer.close()
    finally:
        change(fresh, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_the_state_costs_no_statement_of_its_own_and_is_looked_at_again(fresh: Instance) -> None:
    fresh.upsert([{"uri": "ours", "title": "tiger"}])
    assert fresh.search("tiger", mode="semantic").strategy != "keyword"
    asked: list[object] = []
    reading = fresh.reading.read

    def counted(work: Any) -> Any:
        asked.append(work)
        return reading(work)

    fresh.reading.read = counted  # type: ignore[method-assign]
    for _ in range(5):
        fresh.query_embedder.require_one_model(fresh.embedder)
    assert asked == []


@pytest.mark.parametrize("state", ["serves", "has no index"])
def test_a_verification_notes_it_beside_the_proofs_until_it_is_known(fresh: Instance, state: str) -> None:
    store_as_another_program(fresh, vector=static())
    if state == "has no index":
        change(fresh, "DROP INDEX articles_embedding_hnsw_idx")
    found = fresh.verify(samples=5)
    assert found.holds == (state == "serves")
    (note,) = found.notes
    assert note.slug == "embedding-model-unrecorded"
    assert note.sentence.endswith("Search texts are matched by keyword only.")
    assert "everindex model declare NAME" in note.next_step
    assert found.as_dict()["notes"] == [note.as_dict()]
    fresh.declare_model("static")
    assert fresh.verify(samples=5).notes == ()


# --- what is known -------------------------------------------------------------------------------------------------


def test_which_models_made_how_many_vectors_is_counted(fresh: Instance) -> None:
    fresh.upsert([{"uri": "ours", "title": "tiger"}, {"uri": "theirs", "title": "lemon"}])
    fresh.upsert([{"uri": "theirs"}], vectors=np.array([3 * vector_of("x", WIDTH)]), model="mine")
    store_as_another_program(
        fresh, vector=lambda uri, *_: None if uri == "u0" else np.zeros(WIDTH) if uri == "u1" else vector_of(uri, WIDTH)
    )
    counts = fresh.models()
    assert counts.as_dict() == {
        "rows": 14, "without_vector": 1, "zero": 1, "not_normalised": 1, "models": {STATIC: 1, "mine": 1},
        "unrecorded": 10, "declared": None, "declared_text": None, "dimensions": WIDTH,
    }  # fmt: skip


def test_the_known_model_of_a_table_is_the_one_that_made_every_vector(fresh: Instance) -> None:
    def known() -> str | None:
        with fresh.connection() as connection:
            return known_model(connection, fresh.engine.known()[0])

    assert known() is None
    fresh.upsert([{"uri": "ours", "title": "tiger"}])
    assert known() == STATIC
    change(fresh, "INSERT INTO articles (uri, embedding) SELECT 'zero', array_fill(0, ARRAY[1536])::vector")
    assert known() == STATIC
    store_as_another_program(fresh, vector=static())
    assert known() is None
    fresh.declare_model("static")
    assert known() == STATIC
    fresh.upsert([{"uri": "theirs"}], vectors=np.array([vector_of("x", WIDTH)]), model="mine")
    assert known() is None


def test_zero_vectors_wait_in_the_queue_and_are_embedded(fresh: Instance) -> None:
    fresh.upsert([{"uri": "a", "title": "tiger"}, {"uri": "b", "title": "lemon"}])
    change(fresh, "UPDATE articles SET embedding = array_fill(0, ARRAY[1536])::vector WHERE uri = 'b'")
    assert fresh.embedding_queue() == 1
    assert fresh.embed_missing().stored.updated == 1
    assert fresh.embedding_queue() == 0
    assert fresh.search("lemon", mode="semantic", k=1).hits[0].uri == "b"


def test_vectors_are_read_once_to_find_what_is_to_be_embedded_and_what_is_done_meanwhile_is_left(
    fresh: Instance,
) -> None:
    fresh.upsert([{"uri": uri, "title": title, "summary": summary} for uri, title, summary in texts(12)])
    change(fresh, "UPDATE articles SET embedding = NULL WHERE uri IN ('u1', 'u2', 'u3')")
    queue = fresh.articles_to_embed()
    assert queue == ["u1", "u2", "u3"]
    change(
        fresh,
        "DELETE FROM articles WHERE uri = 'u1'",
        "UPDATE articles SET embedding = (SELECT embedding FROM articles WHERE uri = 'u5') WHERE uri = 'u2'",
    )
    before = vectors_in(fresh)["u2"]
    assert fresh.embed_missing(queue=queue).stored.updated == 1
    assert vectors_in(fresh)["u2"] == before
    assert fresh.embedding_queue() == 0


# --- the declaration -----------------------------------------------------------------------------------------------


def test_records_that_are_gone_are_declared_and_all_goes_on_as_before(fresh: Instance) -> None:
    fresh.upsert([{"uri": uri, "title": title, "summary": summary} for uri, title, summary in texts(12)])
    change(fresh, DROP_RECORDS)
    assert fresh.search("tiger", mode="semantic").strategy == "keyword"
    done = fresh.declare_model("static")
    assert (done.model, done.agreement.compared, done.agreement.agreed) == (STATIC, 12, 12)
    assert done.agreement.worst_cosine > 0.999
    assert fresh.search("tiger", mode="semantic").strategy != "keyword"
    fresh.upsert([{"uri": "u1", "summary": "changed"}])
    assert ask(fresh, "SELECT uri, model FROM everindex_meta.embedding_record") == [("u1", STATIC)]
    assert fresh.embedding_queue() == 0


@pytest.mark.parametrize("form", ["title alone", "summary alone", "summary, an empty line, title"])
def test_the_text_that_was_embedded_may_be_another(fresh: Instance, form: str) -> None:
    store_as_another_program(fresh, vector=static(form))
    agreement = fresh.declare_model("static").agreement
    made = TEXT_FORMS[agreement.form]("the one", "and another")
    assert sorted(made.split()) == sorted(TEXT_FORMS[form]("the one", "and another").split())
    assert fresh.check_vectors(repair=False).declared_other == 0


def test_another_model_is_refused_with_the_figures_of_each_text(fresh: Instance) -> None:
    store_as_another_program(fresh, vector=foreign)
    with pytest.raises(DeclarationRefused, match="0 of 12") as raised:
        fresh.declare_model("static")
    for form in ("title and summary", "title alone"):
        assert f"{form}: 0 of 12 agree, cosine" in raised.value.why
    assert fresh.search("tiger", mode="semantic").strategy == "keyword"
    assert ask(fresh, "SELECT count(*) FROM everindex_meta.declared_model") == [(0,)]


@pytest.mark.parametrize("padding", ["zeros", "repeated"])
def test_the_same_model_in_another_padding_is_refused_and_named(fresh: Instance, padding: str) -> None:
    inner, outer = (orthonormal_map(width, MODEL_DIMENSIONS) for width in (256, WIDTH))
    made = static()

    def padded(uri: str, title: str, summary: str) -> np.ndarray:
        small = inner @ (outer.T @ made(uri, title, summary))
        return np.tile(small, 6) if padding == "repeated" else np.concatenate([small, np.zeros(WIDTH - 256)])

    store_as_another_program(fresh, vector=padded)
    with pytest.raises(DeclarationRefused) as raised:
        fresh.declare_model("static")
    assert "padded or rotated" in raised.value.why


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_mixture_is_refused(fresh: Instance, share: float) -> None:
    made = static()
    store_as_another_program(
        fresh, 40, vector=lambda uri, *text: made(uri, *text) if int(uri[1:]) < 40 * share else vector_of(uri, WIDTH)
    )
    with pytest.raises(DeclarationRefused, match=f"{int(40 * share)} of 40"):
        fresh.declare_model("static")


@pytest.mark.parametrize(
    ("count", "vector"),
    [
        (0, foreign),
        (12, lambda *_: None),
        (12, lambda *_: np.zeros(WIDTH)),
        (2, static()),
    ],
    ids=["no rows", "no vectors", "zero vectors", "two rows"],
)
def test_what_proves_nothing_is_refused(fresh: Instance, count: int, vector: Any) -> None:
    store_as_another_program(fresh, count, vector=vector)
    with pytest.raises(DeclarationRefused):
        fresh.declare_model("static")


def test_one_text_in_all_rows_and_empty_texts_prove_nothing(fresh: Instance) -> None:
    same = static()("", "tiger", "")
    store_as_another_program(fresh, vector=lambda *_: same)
    change(
        fresh,
        "UPDATE articles SET title = 'tiger', summary = NULL WHERE uri <> 'u1'",
        "UPDATE articles SET title = '', summary = ' ' WHERE uri = 'u1'",
    )
    with pytest.raises(DeclarationRefused, match="1 text could be compared"):
        fresh.declare_model("static")


def test_vectors_that_come_after_a_declaration_are_compared_by_a_check(fresh: Instance) -> None:
    store_as_another_program(fresh, 12, vector=static("title alone"))
    fresh.declare_model("static")
    change(
        fresh,
        "INSERT INTO articles (uri, title, embedding) SELECT 'later', 'tiger', embedding FROM articles WHERE uri = "
        "'u3'",
    )
    found = fresh.check_vectors(repair=False)
    assert (found.declared, found.declared_other, found.re_embedded) == (13, 1, 0)
    assert fresh.check_vectors().re_embedded == 1
    assert fresh.check_vectors(repair=False).other == 0
    assert ask(fresh, "SELECT uri FROM everindex_meta.embedding_record") == [("later",)]


def test_a_vector_of_another_text_is_found_and_made_anew(fresh: Instance) -> None:
    fresh.upsert([{"uri": uri, "title": title, "summary": summary} for uri, title, summary in texts(12)])
    change(fresh, "UPDATE articles SET title = 'a harbour at night' WHERE uri IN ('u1', 'u2')")
    found = fresh.check_vectors()
    assert (found.recorded, found.recorded_other, found.re_embedded) == (12, 2, 2)
    assert fresh.check_vectors().other == 0


def test_vectors_of_an_unknown_model_are_made_anew_only_when_told_to(fresh: Instance) -> None:
    store_as_another_program(fresh, vector=foreign)
    assert fresh.embedding_queue() == 0
    assert fresh.embedding_queue(overwrite_unrecorded=True) == 12
    assert fresh.embed_missing(overwrite_unrecorded=True).stored.updated == 12
    assert fresh.search("tiger", mode="semantic").strategy != "keyword"
    with fresh.connection() as connection:
        models = read_table_models(connection, fresh.engine.known()[0])
    assert (models.recorded, models.is_unrecorded, models.only) == ({STATIC: 12}, False, STATIC)


def test_vectors_declared_as_of_another_model_are_never_searched_together(
    fresh: Instance, open_instance: Callable[..., Instance]
) -> None:
    store_as_another_program(fresh, vector=static())
    fresh.declare_model("static")
    other = open_instance(
        fresh.conninfo, EVERINDEX_POOL_SIZE=2, EMBEDDING_MODEL="other", OPENAI_BASE_URL="http://127.0.0.1:9/v1"
    )
    answer = other.search("tiger")
    assert "embedding-models-mixed" in answer.notices[0]
    assert other.embedding_queue() == 12
