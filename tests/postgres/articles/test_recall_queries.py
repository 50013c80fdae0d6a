"""Recall is proven with the queries of searches, too: titles as the table's model embeds them, and sampled searches."""

from __future__ import annotations

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from everindex.articles import verification
from everindex.articles.background.keeper import article_indexes
from everindex.articles.background.query_sampling import QuerySampler, hand_over
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.embedding import choose_embedder
from everindex.articles.instance import Instance
from everindex.articles.recall_queries import RecallQueries
from everindex.index.catalog.observe import observe
from everindex.index.keeper.loop import Keeper
from everindex.index.recall.current import recall_now
from everindex.index.recall.proof import Proof
from everindex.pg.connections import connect
from everindex.settings import Settings


def recall_of(conninfo: str, settings: Settings | None = None, *, floor: float = 0.95) -> Proof:
    result = verification.verify(
        conninfo, floor=floor, samples=30, search_queries=RecallQueries(settings or Settings())
    )
    return next(proof for proof in result.proofs if proof.name == "recall")


def mix(conninfo: str, *, all_but: int) -> None:
    """The vectors of all articles but a few become those of a program that recorded nothing: a cluster far from the rest."""
    name = EMBEDDING_INDEX.name
    with psycopg.connect(conninfo, autocommit=True) as connection:
        register_vector(connection)
        (definition,) = connection.execute(f"SELECT pg_get_indexdef('{name}'::regclass)").fetchone() or ("",)
        connection.execute(f"DROP INDEX {name}")
        uris = [row[0] for row in connection.execute("SELECT uri FROM articles ORDER BY uri LIMIT 600").fetchall()]
        connection.execute("DELETE FROM articles WHERE NOT uri = ANY(%s)", (uris,))
        random = np.random.default_rng(3)
        centre = 30 * random.normal(size=1536)
        strange = [((centre + random.normal(size=1536)).astype(np.float32), uri) for uri in uris[all_but:]]
        connection.cursor().executemany("UPDATE articles SET embedding = %s WHERE uri = %s", strange)
        connection.execute("DELETE FROM everindex_meta.embedding_record WHERE uri = ANY(%s)", (uris[all_but:],))
        for _ in range(40):  # in about half of its builds the graph leads from the many to the few
            connection.execute(definition)
            if not leads_to(connection, uris[:all_but]):
                return
            connection.execute(f"DROP INDEX {name}")
    raise AssertionError("every graph leads to the few")


def leads_to(connection: psycopg.Connection, uris: list[str]) -> bool:
    """Whether the index finds any of these rows by the vector of one of them."""
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        found = connection.execute(
            "SELECT uri FROM articles ORDER BY embedding <=> (SELECT embedding FROM articles WHERE uri = %s) LIMIT 10",
            (uris[0],),
        ).fetchall()
    return any(uri in uris for (uri,) in found)


def test_titles_are_told_beside_stored_rows_each_with_its_interval(read_only_instance: Instance) -> None:
    proof = recall_of(read_only_instance.conninfo)
    assert proof.holds
    rows, titles = proof.by_source
    assert rows.source == "stored rows"
    assert titles.source.startswith("titles embedded with ")
    assert titles.recall.queries == 40
    assert "for stored rows" in proof.sentence
    assert titles.words in proof.sentence
    shown = proof.as_dict()["recall"]
    assert [one["source"] for one in shown["by_source"]] == [rows.source, titles.source]
    assert shown["value"] == min(rows.recall.recall, titles.recall.recall)


def test_on_a_table_of_two_models_the_titles_decide(filled: str) -> None:
    mix(filled, all_but=12)
    proof = recall_of(filled, floor=0.7)  # however many of the few are drawn
    rows, titles = proof.by_source
    assert rows.recall.recall >= 0.7
    assert titles.recall.recall < rows.recall.recall
    assert not proof.holds
    assert proof.recall is titles.recall
    assert "everindex doctor" in str(proof.next_step)


def test_an_endpoint_that_fails_or_is_not_named_fails_no_proof_and_is_told(instance: Instance) -> None:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("UPDATE everindex_meta.embedding_record SET model = 'text-embedding-3-small'")
    unnamed = recall_of(instance.conninfo)
    assert unnamed.holds
    assert [one.source for one in unnamed.by_source] == ["stored rows"]
    assert "not tried: titles by text-embedding-3-small (it is not the model of these settings)" in unnamed.sentence
    unreachable = Settings(OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="sk-not-to-be-told")  # type: ignore[call-arg]
    recorded = choose_embedder(unreachable, width=1536).model
    with connect(instance.conninfo) as connection:
        connection.execute("UPDATE everindex_meta.embedding_record SET model = %s", (recorded,))
    failed = recall_of(instance.conninfo, unreachable)
    assert failed.holds
    assert len(failed.not_tried) == 1
    assert "sk-not-to-be-told" not in str(failed.as_dict())


def test_sampled_searches_of_the_table_s_model_are_measured_and_those_of_another_are_not(instance: Instance) -> None:
    sampler = QuerySampler()
    for text in (
        "a leak",
        "a crash of the parser",
        "locale",
        "threads",
        "unicode",
        "sockets",
        "zip",
        "json",
        "math",
        "gc",
    ):
        sampler.note(instance.embed_query(text))
    hand_over(instance, sampler, budget=50)
    proof = recall_of(instance.conninfo)
    assert [one.source for one in proof.by_source][2:] == ["sampled searches"]
    assert proof.by_source[2].recall.queries == 10
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        connection.execute("UPDATE everindex_meta.query_sample SET model = 'another'")
    assert len(recall_of(instance.conninfo).by_source) == 2


def test_the_keeper_measures_each_source_in_turn_and_keeps_which(instance: Instance) -> None:
    with psycopg.connect(instance.conninfo, autocommit=True) as connection:
        # As large as the keeper measures, by the statistics.
        connection.execute("UPDATE pg_class SET reltuples = 5000 WHERE relname = 'articles'")
    settings = Settings()
    keeper = Keeper(
        instance.conninfo,
        article_indexes(settings),
        recall_share=1e9,  # due at every round
        search_queries=RecallQueries(settings),
    )
    for _ in range(4):
        keeper.once()
    with connect(instance.conninfo) as connection:
        spec = EMBEDDING_INDEX
        observed = observe(connection, spec)
        now = recall_now(connection, spec, observed)
        rows = connection.execute(
            "SELECT source, sum(queries) FROM everindex_meta.recall_history GROUP BY 1"
        ).fetchall()
    sources = {str(source) for source, _ in rows}
    assert len(sources) == 2
    assert "stored rows" in sources
    assert {int(queries) for _, queries in rows} == {20}
    assert all(source in now.sentence for source in sources)
