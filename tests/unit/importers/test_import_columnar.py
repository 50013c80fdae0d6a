"""Parquet and Arrow files become articles by the rules of CSV, batch by batch, and damage is told."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everindex.articles.importers import read_source
from everindex.articles.importers.columnar import BATCH_ROWS
from everindex.articles.importers.objects import read_objects
from everindex.articles.model import Article, RowProblem
from everindex.errors import ExtraMissing, SourceUnreadable

ROWS = {
    "URL": ["https://example.org/1", "https://example.org/2"],
    "Title": ["Tea", "Coffee"],
    "Publication Date": [dt.datetime(2026, 2, 7, 10, 30, tzinfo=dt.UTC), None],
    "Tags": [["green", "black"], None],
    "quality_score": [0.5, None],
    "embedding": [[0.1, 0.2], [0.3, 0.4]],
}
FORMATS = ["parquet", "arrow", "arrows", "feather"]


def written(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        make = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with make(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


def articles_of(path: Path | str, **options: Any) -> list[Article]:
    items = list(read_source(str(path), **options))
    assert not [item for item in items if isinstance(item, RowProblem)]
    return [item for item in items if isinstance(item, Article)]


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_become_articles_by_the_names_of_their_columns(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"articles.{ending}", pa.table(ROWS))
    first, second = articles_of(path, category="Food")
    assert (first.uri, first.title, first.tags, first.quality_score) == (
        "https://example.org/1", "Tea", ("green", "black"), 0.5,
    )  # fmt: skip
    assert first.publication_date == "2026-02-07T10:30:00+00:00"
    assert (second.title, second.publication_date, second.category) == ("Coffee", None, "Food")


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_the_first_bytes_name_the_format_whatever_the_file_is_called(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"articles.{ending}", pa.table(ROWS))
    assert len(articles_of(path.rename(tmp_path / "articles.csv"))) == 2


def test_a_packed_file_and_standard_input_are_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "articles.parquet", pa.table(ROWS))
    packed = tmp_path / "articles.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert articles_of(packed) == articles_of(path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert articles_of("-") == articles_of(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_of_many_rows_is_read_in_batches(tmp_path: Path, ending: str) -> None:
    count = 3 * BATCH_ROWS + 7
    table = pa.table({"uri": [f"u:{n}" for n in range(count)], "title": [f"title {n}" for n in range(count)]})
    path = tmp_path / f"many.{ending}"
    if ending == "parquet":
        pq.write_table(table, path, row_group_size=BATCH_ROWS * 2)
    else:
        written(path, table)
    assert [article.title for article in articles_of(path)] == [f"title {n}" for n in range(count)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (pa.array([dt.date(2026, 2, 7)]), "2026-02-07"),
        (pa.array([1_770_460_200_000_000_123], pa.timestamp("ns", tz="UTC")), "2026-02-07T10:30:00+00:00"),
        (pa.array([dt.datetime(2026, 2, 7, 10, 30)]), "2026-02-07T10:30:00"),
        (pa.array(["7.2.2026"]), "2026-02-07"),
        (pa.array([1_770_460_200]), "2026-02-07T10:30:00+00:00"),
        (pa.array(["2026-02-07"]).dictionary_encode(), "2026-02-07"),
        (pa.array([b"2026-02-07"]), "2026-02-07"),
    ],
)
def test_dates_of_any_type_are_read_as_in_text(tmp_path: Path, value: Any, said: str) -> None:
    table = pa.table({"uri": ["u:1"], "title": ["x"], "date": value})
    (article,) = articles_of(written(tmp_path / "dates.parquet", table))
    assert article.publication_date == said


def test_a_row_that_cannot_become_an_article_is_left_out_with_its_number(tmp_path: Path) -> None:
    table = pa.table(
        {"uri": ["u:1", None, "u:3", "u:4"], "title": ["a", "b", None, "d"], "category": [b"x", b"x", b"x", b"\xff"]}
    )
    items = list(read_source(str(written(tmp_path / "some.parquet", table))))
    assert [(item.line, item.reason) for item in items if isinstance(item, RowProblem)] == [
        (2, "uri is missing or empty"),
        (3, "neither title nor summary, so there is nothing to search"),
        (4, "contains bytes that are not UTF-8"),
    ]
    assert [item.uri for item in items if isinstance(item, Article)] == ["u:1"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"title": ["x"]}), "no column named uri, url or link"),
        (pa.table({"uri": ["x"], "Title": ["a"], "title": ["b"]}), "names a column twice: title"),
    ],
)
def test_a_file_without_its_columns_is_refused_as_a_csv_is(tmp_path: Path, table: Any, said: str) -> None:
    with pytest.raises(SourceUnreadable, match=said):
        list(read_source(str(written(tmp_path / "x.parquet", table))))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 no such thing PAR1", b"ARROW1\0\0 neither", b"plain text"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(content)
    with pytest.raises(SourceUnreadable):
        list(read_source(str(path)))


def test_a_file_that_was_cut_or_damaged_is_told(tmp_path: Path) -> None:
    count = 2000
    table = pa.table(
        {"uri": [f"u:{n}" for n in range(count)], "title": [f"title {n} {n * 7919}" for n in range(count)]}
    )
    path = tmp_path / "cut.parquet"
    pq.write_table(table, path, row_group_size=500, compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceUnreadable, match="damaged, or no Parquet file"):
        list(read_source(str(path)))
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\x55" * 64 + whole[middle + 64 :])
    items = list(read_source(str(path)))
    assert isinstance(items[-1], RowProblem)
    assert items[-1].reason.startswith("the rest could not be read: ")
    assert 500 <= sum(isinstance(item, Article) for item in items) < count


def test_the_rows_of_a_collection_keep_every_column(tmp_path: Path) -> None:
    table = pa.table(
        {"id": [1], "Any Name": ["x"], "at": [dt.datetime(2026, 1, 1)], "n": [Decimal("1.50")], "none": [None]}
    )
    path = written(tmp_path / "rows.parquet", table)
    assert list(read_objects(str(path))) == [(1, {"id": 1, "Any Name": "x", "at": "2026-01-01T00:00:00", "n": 1.5})]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "articles.parquet", pa.table(ROWS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "everindex.articles.importers.columnar")
    for read in (read_source, read_objects):
        with pytest.raises(ExtraMissing, match="Parquet or Arrow") as missing:
            list(read(str(path)))
        assert missing.value.next_step == "run  pip install 'everindex[parquet]'."
