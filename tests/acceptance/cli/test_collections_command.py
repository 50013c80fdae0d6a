"""`everindex collections`, and the commands that work on one, as an operator runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import everindex, url_of

ROWS = [
    '{"id": "1", "title": "Cats", "body": "cats sleep all day", "year": 2024, "shelf": "A"}',
    '{"id": "2", "title": "Dogs", "body": "dogs run and bark", "year": 2023}',
    '{"id": "3", "title": "Bad", "year": "no year"}',
    "not JSON",
]


@pytest.fixture
def url(cluster: Any) -> Iterator[str]:
    conninfo = cluster.database()
    yield url_of(conninfo)
    cluster.drop(conninfo)


def test_a_collection_lives_from_the_command_line(url: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(ROWS), encoding="utf-8")
    made = everindex(
        "collections", "create", "pets", "--dim", "384", "--text", "title", "--text", "body", "--metadata", "year:integer",
        DATABASE_URL=url,
    )  # fmt: skip
    assert made.status == 0, made.stderr
    assert "pets: public.pets" in made.stdout

    stored = everindex("import", "--collection", "pets", str(file), "--json", DATABASE_URL=url)
    assert stored.status == 1, "two rows were skipped"
    (report,) = stored.json.values()
    assert (report["inserted"], report["left_out"]) == (2, 2)
    assert {problem["line"] for problem in report["problems"]} == {3, 4}

    found = everindex("search", "--collection", "pets", "a sleeping cat", "--json", DATABASE_URL=url).json
    assert found["hits"][0]["key"] == "1"
    assert found["hits"][0]["fields"] == {
        "id": "1", "title": "Cats", "body": "cats sleep all day", "year": 2024, "metadata": {"shelf": "A"},
    }  # fmt: skip
    assert "Cats" in everindex("search", "--collection", "pets", "cat", DATABASE_URL=url).stdout

    status = everindex("status", "--json", DATABASE_URL=url)
    assert "pets_embedding_hnsw_idx" in status.stdout
    assert everindex("verify", "--collection", "pets", DATABASE_URL=url).status == 0
    (listed,) = everindex("collections", "--json", DATABASE_URL=url).json["collections"]
    assert (listed["name"], listed["index"], listed["problem"]) == ("pets", "pets_embedding_hnsw_idx", None)

    assert everindex("delete", "--collection", "pets", "1", DATABASE_URL=url).status == 2, "nobody has confirmed it"
    gone = everindex("delete", "--collection", "pets", "1", "--yes", "--json", DATABASE_URL=url).json
    assert gone == {"deleted": 1, "matching": 1, "dry_run": False}
    assert everindex("collections", "drop", "pets", DATABASE_URL=url).status == 2
    assert everindex("collections", "drop", "pets", "--yes", DATABASE_URL=url).status == 0
    missing = everindex("search", "--collection", "pets", "cat", DATABASE_URL=url)
    assert (missing.status, "collection-not-found" in missing.stderr) == (1, True)


@pytest.mark.parametrize("words", [["create"], ["make", "x"], ["drop", "a", "b"], ["create", "x"]])
def test_words_that_are_no_command_are_a_usage_error(url: str, words: list[str]) -> None:
    refused = everindex("collections", *words, DATABASE_URL=url)
    assert refused.status == 2
    assert "next:" in refused.stderr


def test_a_source_is_synchronised_and_shown_before(filled: str, tmp_path: Path) -> None:
    url = url_of(filled)
    file = tmp_path / "feed.jsonl"
    file.write_text(
        "\n".join(json.dumps({"uri": f"s/{n}", "title": f"Tiger {n}"}) for n in range(10)), encoding="utf-8"
    )
    assert everindex("import", "--sync-source", "S", str(file), DATABASE_URL=url).status == 0
    file.write_text(
        "\n".join(json.dumps({"uri": f"s/{n}", "title": f"Tiger {n}"}) for n in range(1, 10)), encoding="utf-8"
    )
    shown = everindex("import", "--sync-source", "S", "--dry-run", str(file), DATABASE_URL=url)
    assert "1 article would be removed of 10" in shown.stdout
    done = everindex("import", "--sync-source", "S", str(file), "--json", DATABASE_URL=url).json
    assert done["sync"] == {"source": "S", "stored": 10, "removed": 1, "uris": ["s/0"], "dry_run": False}
    file.write_text("", encoding="utf-8")
    assert everindex("import", "--dry-run", str(file), DATABASE_URL=url).status == 2
