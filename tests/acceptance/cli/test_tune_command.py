"""`everindex measure`, `tune` and `warm` as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest

from command_line import everindex, url_of

INDEX = "articles_embedding_hnsw_idx"
QUICK = ("--queries", "10", "--max-seconds", "60")


def definition(conninfo: str) -> str:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT pg_get_indexdef(%s::regclass)", (INDEX,)).fetchone()
    assert row is not None
    return str(row[0])


def test_measure_prints_curves_and_draws_them(filled: str, tmp_path: Path) -> None:
    url = url_of(filled)
    done = everindex("measure", *QUICK, "--sample", "0", "--svg", str(tmp_path / "curve.svg"), DATABASE_URL=url)
    assert done.status == 0
    assert "vector, m = 16, ef_construction = 64 (serves)" in done.stdout
    assert "← searches" in done.stdout
    svg = ElementTree.fromstring((tmp_path / "curve.svg").read_text(encoding="utf-8"))
    parts = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert {"title", "desc", "polyline", "circle"} <= parts
    document = json.loads(everindex("measure", *QUICK, "--sample", "0", "--json", DATABASE_URL=url).stdout)
    (measured,) = document["measured"]
    assert document["is_kept"] is True
    assert {"ef_search", "recall", "low", "high", "median_ms", "p95_ms"} <= set(measured["curves"][0]["points"][0])


def test_tune_applies_what_it_recommends_and_goes_back(filled: str) -> None:
    url = url_of(filled)
    done = everindex("tune", "--recall", "0.9", "--apply", *QUICK, "--json", DATABASE_URL=url)
    assert done.status == 0, done.stderr
    (tuned,) = json.loads(done.stdout)["tuned"]
    assert tuned["after"]["opclass"] == "bit_hamming_ops"
    assert 10 * tuned["after"]["index_bytes"] <= tuned["before"]["index_bytes"]
    assert tuned["applied"]["point"]["low"] >= 0.9
    assert "bit_hamming_ops" in definition(filled)
    # Neither a migration, a keeper nor a deploy takes it for a fault.
    for command in (("migrate",), ("keep", "--once"), ("deploy",), ("plan",)):
        assert everindex(*command, DATABASE_URL=url, EVERINDEX_KEEP_DRIFT="replace").status == 0
    assert "bit_hamming_ops" in definition(filled)
    verified = everindex("verify", "--samples", "10", DATABASE_URL=url)
    assert verified.status == 0, verified.stdout
    back = everindex("tune", "--reset", DATABASE_URL=url)
    assert back.stdout.strip().endswith(f"index {INDEX}: as declared in code again (replaced)")
    assert "vector_cosine_ops" in definition(filled)


@pytest.mark.long
def test_where_nothing_holds_the_floor_the_exit_status_and_the_numbers_say_so(filled: str) -> None:
    done = everindex(
        "tune",
        "--recall",
        "1",
        "--queries",
        "5",
        "--sample",
        "1000",
        "--max-seconds",
        "20",
        DATABASE_URL=url_of(filled),
    )
    assert done.status == 3
    assert "no configuration reaches this recall" in done.stdout
    assert "with confidence, at ef_search" in done.stdout


def test_a_recommendation_is_written_into_the_declaration_of_another_application(filled: str, tmp_path: Path) -> None:
    url = url_of(filled)
    path = tmp_path / "indexes.json"
    declaration = {"name": INDEX, "table": "articles", "column": "embedding", "recall_floor": 0.8}
    path.write_text(json.dumps([declaration]))
    asked = ("tune", "--declared", str(path), "--recall", "0.9", *QUICK)
    printed = everindex(*asked, "--apply", DATABASE_URL=url)
    assert '"type": "bit"' in printed.stdout
    assert json.loads(path.read_text()) == [declaration]
    done = everindex(*asked, "--write", DATABASE_URL=url)
    assert done.status == 0
    (written,) = json.loads(path.read_text())
    assert (written["opclass"], written["recall_floor"]) == ("bit_hamming_ops", 0.8)
    assert written["candidates"] >= 10
    assert everindex("plan", "--declared", str(path), DATABASE_URL=url).status == 3  # it can be read, and differs
    assert "vector_cosine_ops" in definition(filled)


def test_what_cannot_be_meant_is_refused(filled: str, tmp_path: Path) -> None:
    url = url_of(filled)
    for arguments, told in (
        (("--reset", "--apply"), "--reset cannot be combined"),
        (("--write",), "--write needs a JSON file"),
        (("--declared", "models:metadata", "--write"), "--write needs a JSON file"),
    ):
        done = everindex("tune", *arguments, DATABASE_URL=url)
        assert (done.status, told in done.stderr) == (2, True)
    nowhere = str(tmp_path / "nowhere" / "curve.svg")
    done = everindex("measure", *QUICK, "--sample", "0", "--svg", nowhere, DATABASE_URL=url)
    assert (done.status, "cannot be written" in done.stderr) == (2, True)


def test_warm_reads_the_index_and_says_when_there_is_none(filled: str) -> None:
    url = url_of(filled)
    done = everindex("warm", DATABASE_URL=url)
    assert done.status == 0
    assert f"index {INDEX}: " in done.stdout
    assert "by pg_prewarm" in done.stdout
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX}")
    done = everindex("warm", "--json", DATABASE_URL=url)
    assert done.status == 3
    assert json.loads(done.stdout)["indexes"][0]["why"] == "no valid index serves"


@pytest.mark.long
def test_a_revision_that_is_run_again_makes_what_was_tuned(filled: str) -> None:
    url = url_of(filled)
    assert everindex("tune", "--recall", "0.9", "--apply", *QUICK, DATABASE_URL=url).status == 0
    for arguments in (("--down", "-1"), ()):
        done = everindex("migrate", *arguments, DATABASE_URL=url)
        assert done.status == 0, done.stderr
    assert "bit_hamming_ops" in definition(filled)
    assert everindex("plan", DATABASE_URL=url).status == 0
