"""A result as a file: the hits of the search in their order, in every format, as they are stored."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everindex.articles.export import FORMATS
from everindex.articles.importers import read_source
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.errors import QueryInapplicable, QueryInvalid, UsageError

#: The columns of an article, and what the search says of it.
COLUMNS = [
    "uri", "title", "summary", "news_source", "category", "topic", "publication_date", "distance", "similarity", "score",
    "semantic_rank", "keyword_rank", "rerank_score",
]  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case _:
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
            return rows


@pytest.mark.parametrize("format", FORMATS)
def test_a_search_becomes_a_file_with_the_hits_in_their_order(
    read_only_instance: Instance, tmp_path: Path, format: str
) -> None:
    path = tmp_path / f"found.{format}"
    done = read_only_instance.export(path, text="memory leak", limit=25)
    wanted = read_only_instance.search("memory leak", k=25).hits
    rows = read(path)
    assert done.rows == len(rows) == 25
    assert list(rows[0]) == COLUMNS
    assert [row["uri"] for row in rows] == [hit.uri for hit in wanted]
    assert [row["title"] for row in rows] == [hit.title for hit in wanted]
    assert [float(row["distance"]) for row in rows if row["distance"]] == [
        hit.distance for hit in wanted if hit.distance is not None
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_text_all_that_pass_are_exported_page_by_page(
    read_only_instance: Instance, tmp_path: Path, format: str
) -> None:
    path = tmp_path / f"all.{format}"
    done = read_only_instance.export(path, filters={"since": "1990"})
    total = read_only_instance.browse({"since": "1990"}, k=1).total
    rows = read(path)
    assert done.rows == len(rows) == len({row["uri"] for row in rows}) == total
    assert total is not None
    assert total > 2000, "more than two pages"
    if format == "parquet":
        assert pq.ParquetFile(path).num_row_groups == 3


def test_an_exact_search_is_exported_whole_and_by_date_in_the_order_of_dates(
    read_only_instance: Instance, tmp_path: Path
) -> None:
    vector = read_only_instance.embed_query("crash on Windows")
    nearest = tmp_path / "nearest.jsonl"
    read_only_instance.export(nearest, vector=vector, limit=1500, exact=True)
    assert [row["uri"] for row in read(nearest)][:1000] == [
        hit.uri for hit in read_only_instance.search_vector(vector, k=1000, exact=True).hits
    ]
    assert len(read(nearest)) == 1500
    dated = tmp_path / "dated.csv"
    read_only_instance.export(dated, text="memory leak", sort="newest")
    dates = [row["publication_date"] for row in read(dated)]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == read_only_instance.search("memory leak", mode="keyword", k=1000).total


def test_a_text_search_by_rank_ends_where_its_pages_end_and_says_so(
    read_only_instance: Instance, tmp_path: Path
) -> None:
    done = read_only_instance.export(tmp_path / "ranked.jsonl", text="fix python", limit=5000)
    assert done.rows == 1000
    assert any("at most its first 1,000" in notice for notice in done.notices)


def test_a_text_that_a_spreadsheet_would_run_is_no_formula_in_csv_and_unchanged_elsewhere(
    instance: Instance, tmp_path: Path
) -> None:
    titles = [
        '=HYPERLINK("http://x","y")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\ttab",
        "＝1+1",
        "plain = fine",
        '"quoted", twice\nover',
    ]
    instance.upsert([{"uri": f"f:{n}", "title": title, "topic": "formulas"} for n, title in enumerate(titles)])
    for format in FORMATS:
        instance.export(tmp_path / f"x.{format}", filters={"topic": "formulas"})
    found = {row["uri"]: row["title"] for row in read(tmp_path / "x.csv")}
    stored = {hit.uri: hit.title for hit in instance.browse({"topic": "formulas"}).hits}
    assert {uri for uri, title in found.items() if title != stored[uri]} == {
        uri for uri, title in stored.items() if title and title[0] in "=+-@\t＝"
    }
    assert all(title.startswith("'") for uri, title in found.items() if title != stored[uri])
    for format in ("jsonl", "parquet"):
        assert {row["uri"]: row["title"] for row in read(tmp_path / f"x.{format}")} == stored


def test_what_was_exported_can_be_imported_again(instance: Instance, tmp_path: Path) -> None:
    for format in FORMATS:
        path = tmp_path / f"again.{format}"
        instance.export(path, text="memory leak", limit=20)
        articles = list(read_source(str(path)))
        assert all(isinstance(article, Article) for article in articles)
        report = instance.import_rows(articles)
        assert (report.stored.unchanged, report.stored.updated, report.problem_count) == (20, 0, 0)


def test_a_collection_keeps_the_types_of_its_columns(instance: Instance, tmp_path: Path) -> None:
    with instance.connection() as connection:
        connection.execute(
            "CREATE TABLE things (id bigint PRIMARY KEY, body text, tags text[], meta jsonb, at timestamptz, day date, "
            "price numeric, good boolean, score integer, embedding vector(3))"
        )
        connection.execute(
            "INSERT INTO things VALUES (1, 'one', '{a,b}', '{\"x\": [1]}', '2024-01-02T03:04:05Z', '2024-01-02', 1.10, "
            "true, 7, '[1,0,0]'), (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '[0,1,0]')"
        )
    things = instance.collection_of(
        table="things", key="id", text=["body"], vector="embedding",
        metadata=["tags", "meta", "at", "day", "price", "good", "score"],
    )  # fmt: skip
    for format in FORMATS:
        assert things.export(tmp_path / f"t.{format}", vector=[1, 0, 0], limit=9).rows == 2  # type: ignore[arg-type]
    table = pq.read_table(tmp_path / "t.parquet")
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("search_score").type == pa.float64()
    one, two = table.to_pylist()
    assert (one["id"], one["tags"], json.loads(one["meta"]), one["day"]) == (
        1,
        ["a", "b"],
        {"x": [1]},
        dt.date(2024, 1, 2),
    )
    assert (one["price"], one["good"], one["score"], one["distance"]) == ("1.10", True, 7, 0.0)
    assert {two[name] for name in ("body", "tags", "meta", "at", "day", "price", "good", "score")} == {None}
    (lines, _) = read(tmp_path / "t.jsonl")
    assert (lines["tags"], lines["meta"], lines["at"], lines["score"]) == (
        ["a", "b"], {"x": [1]}, "2024-01-02T03:04:05Z", 7,
    )  # fmt: skip
    (row, empty) = read(tmp_path / "t.csv")
    assert (json.loads(row["tags"]), json.loads(row["meta"]), row["good"]) == (["a", "b"], {"x": [1]}, "true")
    assert empty["body"] == empty["tags"] == ""


def test_a_binary_stream_takes_an_export_with_a_named_format(read_only_instance: Instance) -> None:
    stream = io.BytesIO()
    assert read_only_instance.export(stream, text="crash", format="parquet", limit=3).rows == 3
    stream.seek(0)
    assert pq.read_table(stream).num_rows == 3
    with pytest.raises(UsageError, match="shows no format"):
        read_only_instance.export(io.BytesIO(), text="crash")


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(read_only_instance: Instance, tmp_path: Path) -> None:
    for path, options, error in (
        (tmp_path / "x.xls", {}, UsageError),
        (tmp_path / "x.csv", {"limit": 0}, QueryInvalid),
        (tmp_path / "x.csv", {"text": " "}, QueryInvalid),
        (tmp_path / "x.csv", {"filters": {"nowhere": 1}}, QueryInvalid),
        (tmp_path / "x.csv", {"vector": read_only_instance.embed_query("x")}, QueryInapplicable),
        (tmp_path / "nowhere" / "x.csv", {}, UsageError),
        (tmp_path / "x.csv", {"format": "xml"}, UsageError),
    ):
        with pytest.raises(error):
            read_only_instance.export(path, **{"text": "crash", **options})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_pyarrow_is_imported_only_where_a_file_is_parquet(read_only_instance: Instance, tmp_path: Path) -> None:
    program = """
import sys
from everindex.articles.connect import connect_instance
from everindex.settings import Settings
with connect_instance(sys.argv[1], settings=Settings()) as instance:
    instance.export(sys.argv[2] + "/x.csv", text="crash", limit=2)
    assert "pyarrow" not in sys.modules
    sys.modules["pyarrow"] = None  # as if it were not installed
    try:
        instance.export(sys.argv[2] + "/x.parquet", text="crash", limit=2)
    except ImportError as exc:
        print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, read_only_instance.conninfo, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extra-missing: Parquet needs the package pyarrow." in done.stdout
    assert "pip install 'everindex[parquet]'" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
