"""Files of judged queries: what is read, and which line is at fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from everindex.articles.evaluation.judgements import read_judgements
from everindex.errors import EverindexError, SourceUnreadable

GOOD = '{"query": "zip", "relevant": ["a", "b"]}'


def written(folder: Path, text: str | bytes, name: str = "queries.jsonl") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_keys_grades_and_ids_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        f'\ufeff{GOOD}\n\n{{"query": " tar \\u2028", "relevant": {{"c": 3, "d": 0}}, "id": "q2"}}\r\n'
        '{"query": "one", "relevant": "e"}\n{"query": "numbers", "relevant": [7, 8]}',
    )
    found = read_judgements(path)
    assert [(query.id, query.text, dict(query.grades), query.line) for query in found.queries] == [
        ("1", "zip", {"a": 1, "b": 1}, 1),
        ("q2", "tar", {"c": 3, "d": 0}, 3),
        ("4", "one", {"e": 1}, 4),
        ("5", "numbers", {"7": 1, "8": 1}, 5),
    ]
    assert (found.count, len(found.keys)) == (6, 7)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"relevant": ["a"]}', 'no text under "query"'),
        ('{"query": " ", "relevant": ["a"]}', 'no text under "query"'),
        ('{"query": "x"}', "neither a list of keys"),
        ('{"query": "x", "relevant": []}', "no key is relevant"),
        ('{"query": "x", "relevant": {"a": 0}}', "no key is relevant"),
        ('{"query": "x", "relevant": {"a": 1.5}}', "grade 1.5"),
        ('{"query": "x", "relevant": {"a": -1}}', "grade -1"),
        ('{"query": "x", "relevant": {"a": true}}', "grade True"),
        ('{"query": "x", "relevant": [null]}', "not a key"),
        ('{"query": "x", "relevant": ["a"], "revelant": ["b"]}', "unknown member 'revelant'"),
        ('{"query": "zip", "relevant": ["a"]}', "already in line 1"),
        ('{"query": "x", "relevant": ["a"], "id": "1"}', "already in line 1"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = written(tmp_path, f"{GOOD}\n{line}\n")
    with pytest.raises(SourceUnreadable, match=r"line 2 of .*queries\.jsonl") as raised:
        read_judgements(path)
    assert why in raised.value.why


def test_text_that_is_no_utf_8_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="line 3 of"):
        read_judgements(written(tmp_path, GOOD.encode() + b"\n\n\xff\n"))


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(EverindexError, match="cannot be read"):
        read_judgements(tmp_path / name)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="cannot be used as judged queries"):
        read_judgements(written(tmp_path, "\n \n"))


def test_trec_files_are_read(tmp_path: Path) -> None:
    topics = written(tmp_path, "1\tzip files\n2\ttar\n3\tnothing\n", "topics.tsv")
    qrels = written(tmp_path, "1 0 a 2\n1 0 b 0\n1 0 c -2\n2\tQ0\tb\t1\n9 0 a 1\n", "qrels.txt")
    found = read_judgements(topics, qrels)
    assert [(query.id, query.text, dict(query.grades)) for query in found.queries] == [
        ("1", "zip files", {"a": 2, "b": 0, "c": 0}),
        ("2", "tar", {"b": 1}),
    ]
    assert found.unjudged == ("3",)


@pytest.mark.parametrize(
    ("topics", "qrels", "told"),
    [
        ("1 zip\n", "1 0 a 1\n", "line 1 of .*topics"),
        ("1\tzip\n", "1 0 a 1\n1 a 1\n", "line 2 of .*qrels"),
        ("1\tzip\n", "1 0 a x\n", "line 1 of .*qrels"),
        ("1\tzip\n", "2 0 a 1\n", "topics.*judged queries"),
    ],
)
def test_a_line_of_trec_files_that_cannot_be_used_is_named(tmp_path: Path, topics: str, qrels: str, told: str) -> None:
    with pytest.raises(SourceUnreadable, match=told):
        read_judgements(written(tmp_path, topics, "topics.tsv"), written(tmp_path, qrels, "qrels.txt"))
