"""`everindex check` as a gate: what it prints, and with which status it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from command_line import Done, everindex, three_lines

GOOD = "SELECT uri FROM articles ORDER BY embedding <=> %s LIMIT 10"
BAD = "SELECT uri, 1 - (embedding <=> %(v)s) AS s FROM articles ORDER BY s DESC LIMIT 10"
INDEX = "articles_embedding_hnsw_idx"


def test_a_statement_that_uses_the_index_passes_and_another_ends_with_three(on_articles: Callable[..., Done]) -> None:
    done = on_articles("check", GOOD)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.startswith("✓ SELECT uri FROM articles")
    assert f"Index Scan using {INDEX} (articles has 1,500 rows)" in done.stdout
    done = on_articles("check", BAD)
    assert done.status == 3
    lines = done.stdout.splitlines()
    assert lines[0].startswith("✗ ")
    assert lines[1].startswith("    why:  it orders by 1 - distance DESC")
    assert lines[2].startswith("    next: ORDER BY articles.embedding <=> '…' LIMIT k")
    assert lines[2].endswith(f"PostgreSQL then uses {INDEX}.")


def test_files_hold_several_named_statements_and_each_is_checked(
    on_articles: Callable[..., Done], tmp_path: Path
) -> None:
    first, second, values = tmp_path / "a.sql", tmp_path / "b.sql", tmp_path / "vector.json"
    first.write_text(f"-- name: good\n{GOOD.replace('%s', ':v')};\n-- name: broken\nSELECT nowhere FROM articles;\n")
    second.write_text(f"-- name: bad\n{BAD.replace('%(v)s', ':v')}")
    values.write_text(json.dumps([0.1] * 256) + "\n")
    done = on_articles("check", "--json", str(first), str(second), "--param", f"v=@{values}")
    assert done.status == 2
    told = done.json
    assert told["uses_index"] is False
    assert [(one["name"], one["line"], one["uses_index"]) for one in told["statements"]] == [
        ("good", 2, True), ("broken", 4, False), ("bad", 2, False),
    ]  # fmt: skip
    assert told["statements"][0]["indexes"] == [INDEX]
    assert told["statements"][1]["error"]["slug"] == "statement-not-checkable"
    assert told["statements"][2]["reasons"][0]["slug"] == "similarity-descending"
    assert on_articles("check", str(second)).stdout.startswith(f"✗ bad ({second}:2): Seq Scan on articles")


def test_stdin_parameters_settings_and_the_index_are_taken(on_articles: Callable[..., Done]) -> None:
    text = "SELECT uri FROM articles ORDER BY embedding <=> $1 LIMIT $2"
    done = on_articles("check", "-", "--param", "2=60", "--set", "hnsw.ef_search=40", "--index", INDEX, stdin=text)
    assert done.status == 0, done.stdout
    assert "warning: 60 rows are asked for" in done.stdout
    assert on_articles("check", GOOD, "--index", "another").status == 3
    done = on_articles("check", text)
    assert done.status == 2
    assert "parameters without a value: 2 (int8)" in done.stdout


def test_wrong_input_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    nobody = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    three_lines(everindex("check", GOOD, "--param", "topic=x", **nobody), "bad-input", status=2)
    three_lines(everindex("check", GOOD, "--set", "hnsw.ef_search", **nobody), "bad-input", status=2)
    three_lines(everindex("check", str(tmp_path / "none.sql"), **nobody), "source-unreadable", status=2)
    three_lines(everindex("check", "  -- nothing", **nobody), "statement-not-checkable", status=2)
    three_lines(everindex("check", GOOD, **nobody), "server-unreachable", status=1)
