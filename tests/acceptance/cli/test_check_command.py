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
    assert "warning: 60 rows are requested" in done.stdout
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


def test_a_file_with_a_transaction_is_checked_under_its_settings(
    on_articles: Callable[..., Done], tmp_path: Path
) -> None:
    file = tmp_path / "transaction.sql"
    select = "SELECT uri FROM articles ORDER BY embedding <=> $1 LIMIT 100;"
    file.write_text(f"BEGIN;\nSET LOCAL hnsw.ef_search = 200;\n{select}\nCOMMIT;\n")
    done = on_articles("check", str(file))
    assert (done.status, done.stdout.count("\n")) == (0, 1), done.stdout
    assert f"✓ {file}:3: " in done.stdout
    # psql sends each statement of a file by itself: without BEGIN the setting is gone.
    file.write_text(f"SET LOCAL hnsw.ef_search = 200;\n{select}\n")
    done = on_articles("check", str(file))
    assert "warning: SET LOCAL hnsw.ef_search = 200: outside a transaction" in done.stdout
    assert "100 rows are requested" in done.stdout
    done = on_articles("check", f"SET LOCAL hnsw.ef_search = :ef; {select}", "--param", "ef=200")
    assert (done.status, "warning" in done.stdout) == (0, False), done.stdout


def test_a_statement_of_any_length_is_a_statement_and_no_file(on_articles: Callable[..., Done]) -> None:
    vector = json.dumps([0.0123456789012] * 1536)
    for text in (
        f"SELECT uri FROM articles WHERE '{vector}' <> '' ORDER BY embedding <=> $1 LIMIT 10",
        "SELECT uri FROM articles WHERE title <> 'a/b:c*?\\é\x01' ORDER BY embedding <=> $1 LIMIT 10",
        "SELECT uri FROM articles ORDER BY embedding <=> $1 LIMIT 10 -- queries.sql",
    ):
        assert on_articles("check", text).status == 0


def test_what_cannot_be_read_is_told_in_three_lines(tmp_path: Path) -> None:
    nobody = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    made = {
        "empty.sql": b"", "latin.sql": "SELECT 'é'".encode("latin-1"), "wide.sql": GOOD.encode("utf-16-le"),
        "blank.sql": "﻿ \n-- nothing\n".encode(), "binary": bytes(range(256)),
    }  # fmt: skip
    slugs = {"empty.sql": "statement-not-checkable", "blank.sql": "statement-not-checkable"}
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
        three_lines(everindex("check", str(tmp_path / name), **nobody), slugs.get(name, "source-unreadable"), status=2)
    for path in (tmp_path, Path("/proc/self/mem"), tmp_path / "none" / "x", tmp_path / ("x" * 300 + ".sql")):
        three_lines(everindex("check", str(path), **nobody), "source-unreadable", status=2)
    for value in (tmp_path, tmp_path / "binary", "x" * 5000):
        three_lines(everindex("check", GOOD, "--param", f"1=@{value}", **nobody), "source-unreadable", status=2)
    three_lines(everindex("check", "-", stdin=b"\xff\xfeSELEC", **nobody), "source-unreadable", status=2)


def test_files_with_a_byte_order_mark_are_read(on_articles: Callable[..., Done], tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        file = tmp_path / f"{encoding}.sql"
        file.write_bytes(GOOD.encode(encoding))
        assert on_articles("check", str(file)).status == 0
    assert on_articles("check", "-", stdin=GOOD.encode("utf-16")).status == 0
