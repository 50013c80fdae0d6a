"""Whole texts on the command line: imported, cut, found with the passage, counted by status and the doctor, embedded later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from command_line import Done
from whole_texts import digests, of_article


def as_lines(count: int) -> str:
    return "".join(
        json.dumps({"uri": one.uri, "title": one.title, "summary": one.summary, "body": one.raw_text}) + "\n"
        for one in digests(count)
    )


def test_a_body_is_imported_cut_and_found_with_its_passage(on_head: Callable[..., Done], tmp_path: Path) -> None:
    source = tmp_path / "digests.jsonl"
    source.write_text(as_lines(6), encoding="utf-8")
    imported = on_head("import", str(source))
    assert imported.status == 0, imported.stderr
    assert "6 whole texts cut into " in imported.stdout
    found = on_head("search", of_article(4)[3], "-k", "3")
    assert "digest/4" in found.stdout
    assert "(passage " in found.stdout
    hit = json.loads(on_head("search", of_article(4)[3], "--json").stdout)["hits"][0]
    assert hit["uri"] == "digest/4"
    assert hit["passage"]["text"] in digests(6)[4].raw_text
    status = on_head("status")
    assert "whole texts: 6 of 6 texts cut into " in status.stdout
    assert status.status == 0, status.stdout
    told = json.loads(on_head("status", "--json").stdout)["whole_texts"]
    assert (told["texts"], told["cut"], told["due"], told["orphans"]) == (6, 6, 0, 0)
    assert "all 6 whole texts are cut" in on_head("doctor", "--rule", "whole-texts-not-cut", "--all").stdout
    listed = on_head("collections").stdout
    assert "articles.passages" in listed


def test_bodies_that_were_stored_before_are_counted_and_cut_by_embed(
    on_head: Callable[..., Done], tmp_path: Path
) -> None:
    source = tmp_path / "digests.jsonl"
    source.write_text(as_lines(5), encoding="utf-8")
    assert "cut into" not in on_head("import", str(source), EVERINDEX_PASSAGES="off").stdout
    assert "5 due: run  everindex embed" in on_head("status").stdout
    assert "5 whole texts to cut into passages" in on_head("embed", "--dry-run").stdout
    assert json.loads(on_head("embed", "--dry-run", "--json").stdout)["texts"] == 5
    done = on_head("embed")
    assert done.status == 0, done.stderr
    assert "5 whole texts cut into " in done.stdout
    assert "passages" not in json.loads(on_head("embed", "--json").stdout)
    assert "due" not in on_head("status").stdout


def test_a_database_without_bodies_says_nothing_of_them(on_articles: Callable[..., Done]) -> None:
    assert "whole texts" not in on_articles("status").stdout
    assert "whole_texts" not in json.loads(on_articles("status", "--json").stdout)
