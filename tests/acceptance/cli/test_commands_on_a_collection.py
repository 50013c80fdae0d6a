"""Every command that works on the articles works on a collection, in a database that has collections alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from command_line import Running, everindex, url_of
from everindex.articles.connect import connect_instance
from everindex.settings import Settings

TEXTS = ("a tiger sleeps in the tall grass", "rust compiles to machine code", "the bank raised its interest rate")
INDEX = "docs_embedding_hnsw_idx"


@pytest.fixture(scope="module")
def address(cluster: Any) -> Iterator[str]:
    """A database that was never migrated, with two collections."""
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as instance:
        docs = instance.collection("docs", dim=384, text=("title", "body"), metadata={"year": "integer"})
        docs.upsert(
            [{"id": f"d{n}", "title": f"T{n}", "body": f"{TEXTS[n % 3]} ({n})", "year": 2000 + n} for n in range(60)]
        )
        other = instance.collection("other", dim=384, key="nr", key_type="bigint")
        other.upsert([{"nr": n, "text": TEXTS[n % 3]} for n in range(9)])
    yield url_of(conninfo)
    cluster.drop(conninfo)


def on_docs(address: str, *words: str) -> Any:
    done = everindex(*words, "--collection", "docs", "--json", DATABASE_URL=address)
    assert done.status == 0, done.stderr
    return done.json


def test_the_status_tells_what_is_there_instead_of_missing_migrations(address: str) -> None:
    told = everindex("status", DATABASE_URL=address)
    assert told.status == 0, told.stderr
    assert re.search(r"collection docs: public.docs · \d+ rows · vector\(384\) · cosine · index docs_", told.stdout)
    assert "migrate" not in told.stdout + told.stderr
    found = everindex("status", "--json", DATABASE_URL=address).json
    assert [each["name"] for each in found["collections"]] == ["docs", "other"]
    assert [proof["name"] for proof in found["proofs"]] == ["index", "index"]
    assert found["holds"] is True
    one = on_docs(address, "status")
    assert [each["name"] for each in one["collections"]] == ["docs"]
    assert len(one["proofs"]) == 1


def test_verify_proves_every_collection_unless_one_is_named(address: str) -> None:
    done = everindex("verify", "--samples", "5", DATABASE_URL=address)
    assert done.status == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.endswith(":")] == ["docs:", "other:"]
    proofs = everindex("verify", "--samples", "5", "--json", DATABASE_URL=address).json["proofs"]
    assert [(proof["collection"], proof["name"]) for proof in proofs] == [
        (name, proof) for name in ("docs", "other") for proof in ("index", "planner", "recall")
    ]
    assert "collection" not in on_docs(address, "verify", "--samples", "5")["proofs"][0]


def test_the_doctor_knows_the_indexes_of_collections(address: str) -> None:
    done = everindex("doctor", "--all", "--rule", "declared-index-missing", DATABASE_URL=address)
    assert done.status == 0
    assert f'declared index "public"."{INDEX}" exists' in done.stdout
    assert "no index is declared" not in done.stderr
    one = everindex(
        "doctor", "--collection", "other", "--all", "--rule", "declared-index-missing", DATABASE_URL=address
    )
    assert INDEX not in one.stdout


def test_an_index_that_was_dropped_is_planned_deployed_and_warmed(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX}")
    missing = everindex("status", "--collection", "docs", DATABASE_URL=address)
    assert (missing.status, f"index {INDEX} does not exist" in missing.stdout) == (3, True)
    assert everindex("status", "--collection", "other", DATABASE_URL=address).status == 0
    planned = everindex("plan", "--collection", "docs", "--json", DATABASE_URL=address)
    assert (planned.status, len(planned.json["plans"])) == (3, 1)
    assert on_docs(address, "deploy")["indexes"][0]["outcome"] == "built"
    assert on_docs(address, "heal")["indexes"][0]["outcome"] == "already-there"
    assert on_docs(address, "warm")["indexes"][0]["index"] == INDEX


def test_what_is_tuned_for_a_collection_is_applied_and_taken_back(address: str) -> None:
    measured = on_docs(address, "measure", "--queries", "10", "--sample", "0")["measured"]
    assert [each["index"] for each in measured] == [INDEX]
    tuned = on_docs(address, "tune", "--recall", "0.9", "--queries", "20", "--sample", "1000", "--apply")["tuned"]
    assert tuned[0]["holds"] is True
    assert "applied" in tuned[0]
    assert on_docs(address, "verify", "--samples", "5")["holds"] is True
    assert on_docs(address, "tune", "--reset")["reset"][0]["was_tuned"] is True
    assert on_docs(address, "rollback", "--forget")["indexes"][0]["index"] == INDEX


def test_a_row_and_those_like_it_are_shown(address: str) -> None:
    assert on_docs(address, "article", "d3")["year"] == 2003
    like = on_docs(address, "similar", "d3", "-k", "5")["hits"]
    assert len(like) == 5
    assert all(int(hit["key"][1:]) % 3 == 0 for hit in like), "those with the same text"
    by_number = everindex("article", "4", "--collection", "other", DATABASE_URL=address)
    assert f"text: {TEXTS[1]}" in by_number.stdout
    for key in ("999", "no number"):
        for command in ("article", "similar"):
            missing = everindex(command, key, "--collection", "other", DATABASE_URL=address)
            assert (missing.status, "row-not-found" in missing.stderr) == (1, True), missing.stderr


def test_missing_vectors_are_made_and_their_models_told(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("UPDATE docs SET embedding = NULL WHERE id IN ('d1', 'd2')")
    assert on_docs(address, "embed", "--dry-run")["waiting"] == 2
    assert on_docs(address, "embed")["embedded"] == 2
    models = on_docs(address, "model")
    assert sum(models["models"].values()) == 60
    refused = everindex("embed", "--check", "--collection", "docs", DATABASE_URL=address)
    assert refused.status == 2
    assert "next:" in refused.stderr


def test_a_collection_is_evaluated(address: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(
        json.dumps({"query": "sleeping tiger", "relevant": [f"d{n}" for n in range(0, 60, 3)]}), encoding="utf-8"
    )
    found = on_docs(address, "evaluate", str(file), "--mode", "hybrid", "--mode", "keyword")
    assert [system["mode"] for system in found["systems"]] == ["keyword", "hybrid"]
    assert found["unknown_keys"] == []
    assert found["systems"][1]["measures"]["nDCG@10"]["mean"] == 1.0


@pytest.mark.parametrize("command", ["status", "verify", "deploy", "doctor", "measure", "similar", "evaluate"])
def test_a_collection_that_does_not_exist_is_named_with_those_that_do(
    address: str, command: str, tmp_path: Path
) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text('{"query": "x", "relevant": ["d1"]}', encoding="utf-8")
    more = {"similar": ["d1"], "evaluate": [str(file)]}.get(command, [])
    missing = everindex(command, *more, "--collection", "nothing", DATABASE_URL=address)
    assert missing.status == 1
    assert "collection-not-found" in missing.stderr
    assert "docs, other" in missing.stderr


def test_a_declaration_of_others_and_a_collection_are_not_mixed(address: str, tmp_path: Path) -> None:
    refused = everindex("status", "--declared", "x.json", "--collection", "docs", DATABASE_URL=address)
    assert refused.status == 2


def test_a_collection_whose_table_is_gone_is_told_beside_the_others(cluster: Any) -> None:
    conninfo = cluster.database()
    with connect_instance(conninfo, settings=Settings()) as instance:
        for name in ("here", "gone"):
            instance.collection(name, dim=8, text=())
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE gone")
    address = url_of(conninfo)
    told = everindex("status", DATABASE_URL=address)
    assert told.status == 3
    assert "collection gone cannot be searched" in told.stdout
    assert "index here_embedding_hnsw_idx exists" in told.stdout
    assert everindex("verify", "--samples", "2", DATABASE_URL=address).status == 3
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP TABLE here")
    assert everindex("status", DATABASE_URL=address).status == 3
    cluster.drop(conninfo)


def test_the_keeper_keeps_a_database_of_collections_alone(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP INDEX other_embedding_hnsw_idx")
    kept = everindex("keep", "--once", "--json", DATABASE_URL=address)
    assert kept.status == 0, kept.stdout
    assert kept.json["role"] == "leads"
    assert everindex("status", DATABASE_URL=address).status == 0


def test_up_serves_a_database_of_collections_without_migrating_it(address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX}")
    with Running("up", "--port", "0", DATABASE_URL=address) as up:
        url = up.url()
        assert httpx2.get(f"{url}/readyz").json()["collections"] == {"docs": "valid", "other": "valid"}
        assert len(httpx2.get(f"{url}/api/collections/docs/search", params={"q": "tiger"}).json()["hits"]) == 10
        assert any("served as it is" in line for line in up.lines)
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT to_regclass('articles'), to_regclass('alembic_version')").fetchone() == (
            None,
            None,
        )
