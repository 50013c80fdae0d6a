"""`everindex plan`, `deploy`, `heal` and `rollback`: a plan is shown before it is done, and done it is empty."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from command_line import everindex, url_of

INDEX = "articles_embedding_hnsw_idx"


@pytest.fixture
def declared(tmp_path: Path) -> str:
    """Another definition of the articles' index, as another application would hand it over."""
    path = tmp_path / "indexes.json"
    path.write_text(
        json.dumps([{"name": INDEX, "table": "articles", "column": "embedding", "m": 8, "ef_construction": 32}])
    )
    return str(path)


def indexes(conninfo: str) -> dict[str, tuple[Any, ...]]:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "SELECT c.relname, i.indisvalid, c.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def test_a_plan_is_shown_then_done_then_empty_and_a_rollback_takes_it_back(filled: str, declared: str) -> None:
    url = url_of(filled)
    plan = everindex("plan", "--declared", declared, DATABASE_URL=url)
    assert plan.status == 3
    assert "build index articles_embedding_hnsw_idx__next on public.articles, online" in plan.stdout
    assert "lock:    SHARE UPDATE EXCLUSIVE" in plan.stdout
    assert "1500 rows, about" in plan.stdout
    assert "(by a trial with 1000 rows)" in plan.stdout
    assert "CREATE INDEX CONCURRENTLY" in plan.stdout
    assert list(indexes(filled)) == [INDEX]  # nothing was changed, and no trial was left

    document = json.loads(everindex("plan", "--json", "--declared", declared, DATABASE_URL=url).stdout)
    digest = document["plans"][0]["digest"]
    assert [step["step"] for step in document["plans"][0]["steps"]] == ["Build", "Prove", "Swap"]
    assert all(step["lock"] and step["reverse"] for step in document["plans"][0]["steps"])

    refused = everindex("deploy", "--declared", declared, "--plan", "0" * 12, DATABASE_URL=url)
    assert refused.status == 1
    assert "\nplan-out-of-date: " in refused.stderr  # after the plan as it is now
    assert list(indexes(filled)) == [INDEX]

    done = everindex("deploy", "--json", "--declared", declared, "--plan", digest, DATABASE_URL=url)
    assert done.status == 0, done.stderr
    assert "1. build index" in done.stderr  # the plan, before the first statement
    assert json.loads(done.stdout)["indexes"][0]["outcome"] == "replaced"
    assert indexes(filled) == {
        INDEX: (True, ["m=8", "ef_construction=32"]),
        f"{INDEX}__prev": (False, ["m=16", "ef_construction=64"]),
    }
    empty = everindex("plan", "--declared", declared, DATABASE_URL=url)
    assert (empty.status, empty.stdout) == (0, f"index public.{INDEX}: nothing to do\n")

    back = everindex("rollback", DATABASE_URL=url)
    assert back.status == 0, back.stderr
    assert f"serves as CREATE INDEX {INDEX} ON public.articles" in back.stdout
    assert indexes(filled)[INDEX] == (True, ["m=16", "ef_construction=64"])
    assert everindex("verify", "--samples", "20", DATABASE_URL=url).status == 0

    healed = everindex("heal", "--declared", declared, DATABASE_URL=url)
    assert healed.status == 0
    assert "`everindex deploy` tries it again" in healed.stdout
    assert indexes(filled)[INDEX] == (True, ["m=16", "ef_construction=64"])
    assert everindex("rollback", "--forget", DATABASE_URL=url).stdout.endswith("was dropped\n")
    assert list(indexes(filled)) == [INDEX]
    none = everindex("rollback", DATABASE_URL=url)
    assert none.status == 1
    assert none.stderr.startswith("nothing-to-roll-back: ")


def test_heal_rebuilds_what_is_invalid_and_says_what_it_did(filled: str) -> None:
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", (INDEX,))
    assert everindex("status", DATABASE_URL=url_of(filled)).status == 3
    done = everindex("heal", DATABASE_URL=url_of(filled))
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(f"index {INDEX}: rebuilt\n  done: drop index {INDEX}, which is INVALID")
    assert indexes(filled) == {INDEX: (True, ["m=16", "ef_construction=64"])}


@pytest.mark.parametrize(
    ("arguments", "slug", "status"),
    [
        (("plan", "--index", "no_such"), "bad-input", 2),
        (("plan", "--declared", "no.such.module:metadata"), "bad-input", 2),
        (("deploy", "--declared", "no-such-file.json"), "source-unreadable", 2),
        (("plan", "--declared", "json:loads"), "bad-input", 2),
    ],
)
def test_a_declaration_that_leads_nowhere_is_a_usage_error(
    migrated: str, arguments: tuple[str, ...], slug: str, status: int
) -> None:
    done = everindex(*arguments, DATABASE_URL=url_of(migrated))
    assert done.status == status
    assert done.stderr.startswith(f"{slug}: ")
    assert len(done.stderr.strip().split("\n")) == 3
