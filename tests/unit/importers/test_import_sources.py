"""What comes out of real files: JSONL, CSV, gzip, standard input, damage, and bytes of any kind."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everindex.articles.importers import Format, read_source, sample_source
from everindex.articles.model import Article, RowProblem
from everindex.errors import SourceUnreadable, UsageError

ROW = b'{"uri": "u", "title": "t"}\n'


def read(path: Path, data: bytes, name: str, format: Format | None = None) -> list[Article | RowProblem]:
    file = path / name
    file.write_bytes(data)
    return list(read_source(str(file), format=format))


def problems(items: list[Article | RowProblem]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, RowProblem)]


def uris(items: list[Article | RowProblem]) -> list[str]:
    return [item.uri for item in items if isinstance(item, Article)]


def test_the_sample_is_9940_articles_read_within_a_second() -> None:
    fastest = 9.0
    for _ in range(5):
        begin = time.process_time()
        items = list(read_source(str(sample_source())))
        fastest = min(fastest, time.process_time() - begin)
        if fastest < 1.0:
            break
    assert len(set(uris(items))) == 9940
    assert problems(items) == []
    assert fastest < 1.0


def test_the_sample_carries_its_origin_and_its_licence() -> None:
    folder = sample_source().parent
    assert "Python Software Foundation" in (folder / "README.md").read_text(encoding="utf-8")
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in (folder / "LICENSE-PSF.txt").read_text(encoding="utf-8")


def test_jsonl_names_the_line_of_each_broken_row_and_goes_on(tmp_path: Path) -> None:
    data = (
        b"\xef\xbb\xbf"
        + ROW
        + b'\n{"uri": \n[1]\n{"uri": "\xff"}\n'
        + b"[" * 100_000
        + b"\n"
        + b'{"uri": "v", "title": "t"}'
    )
    items = read(tmp_path, data, "a.jsonl")
    assert uris(items) == ["u", "v"]
    assert [line for line, _ in problems(items)] == [3, 4, 5, 6]
    assert problems(items)[2] == (5, "not UTF-8: byte 0xff at column 10")


def test_a_json_list_is_read_with_the_line_of_each_element(tmp_path: Path) -> None:
    rows = [{"uri": "a", "title": "t"}, {"uri": ""}, {"uri": "b", "title": "t"}]
    items = read(tmp_path, json.dumps(rows, indent=1).encode(), "a.json")
    assert uris(items) == ["a", "b"]
    assert problems(items) == [(6, "uri is missing or empty")]
    assert read(tmp_path, b"[]", "empty.json") == []
    cut = read(tmp_path, b'[\n{"uri": "a", "title": "t"},\n{"uri"', "cut.json")
    assert uris(cut) == ["a"]
    assert problems(cut)[0][0] == 3
    assert "after the list" in problems(read(tmp_path, b"[] {}", "more.json"))[0][1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_finds_its_delimiter_and_reads_quoted_newlines(tmp_path: Path, delimiter: str) -> None:
    lines = [["URL", "Title", "Publication Date"], ["a", '"x\ny, z; w"', "2023-02-07"], ["", "t", ""], ["b", "t", ""]]
    data = "\ufeff" + "\r\n".join(delimiter.join(line) for line in lines)
    items = read(tmp_path, data.encode(), "rows.txt")
    assert items[0] == Article(uri="a", title="x\ny, z; w", publication_date="2023-02-07")
    assert uris(items) == ["a", "b"]
    assert problems(items) == [(4, "uri is missing or empty")]


def test_csv_names_rows_that_do_not_fit_the_header_and_goes_on(tmp_path: Path) -> None:
    data = b'uri,title\na,b,c\na\n\nb,t,,\nc,\xff\n"d"x,t\ne,t\n"f,t\n'
    items = read(tmp_path, data, "a.csv")
    assert uris(items) == ["b", "e"]
    assert [line for line, _ in problems(items)] == [2, 3, 6, 7, 9]
    assert problems(items)[0][1] == "3 values but the header has 2 columns"
    assert problems(items)[-1][1] == "a quote opened in this row is never closed"


def test_a_csv_value_may_be_larger_than_the_limit_of_the_csv_module(tmp_path: Path) -> None:
    items = read(tmp_path, b"uri,title,body\na,t," + b"x" * 500_000, "a.csv")
    assert isinstance(items[0], Article)
    assert len(items[0].raw_text or "") == 500_000


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"title,summary\na,b\n", "no column named uri"),
        (b"uri,uri\na,b\n", "a column twice"),
        (b'"uri\n', "never closed"),
    ],
)
def test_a_csv_header_that_cannot_be_used_is_refused_as_a_whole(tmp_path: Path, header: bytes, said: str) -> None:
    with pytest.raises(SourceUnreadable) as caught:
        read(tmp_path, header, "a.csv")
    assert said in caught.value.why


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_line_over_ten_megabytes_is_a_problem_and_costs_bounded_memory(tmp_path: Path, name: str) -> None:
    before, after = (ROW, ROW) if name == "a.jsonl" else (b"uri,title\nu,t\n", b"u,t\n")
    file = tmp_path / f"{name}.gz"
    with gzip.open(file, "wb", compresslevel=1) as out:
        out.write(before)
        for _ in range(60):
            out.write(b"x" * 1_000_000)
        out.write(b"\n" + after)
    tracemalloc.start()
    items = list(read_source(str(file)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert uris(items) == ["u", "u"]
    assert "longer than 10 MB" in problems(items)[0][1]
    assert peak_bytes < 40_000_000


def test_a_gzip_file_that_was_cut_gives_what_came_before_and_says_so(tmp_path: Path) -> None:
    rows = b"".join(b'{"uri": "u%d", "title": "%d"}\n' % (i, i * 7919 % 10007) for i in range(20_000))
    for name, plain in (
        ("a.jsonl.gz", rows),
        (
            "a.csv.gz",
            b"uri,title\n" + rows.replace(b'{"uri": "', b"").replace(b'", "title": ', b",").replace(b"}", b""),
        ),
    ):
        packed = gzip.compress(plain)
        items = read(tmp_path, packed[: len(packed) // 2], name)
        assert 1000 < len(uris(items)) < 20_000
        assert uris(items) == [f"u{i}" for i in range(len(uris(items)))]
        assert len(problems(items)) == 1
        assert "the rest could not be read" in problems(items)[0][1]
        assert problems(items)[0][0] == len(items) + (name == "a.csv.gz")


def test_a_gzip_file_with_a_wrong_checksum_is_told_after_its_rows(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(ROW))
    packed[-8] ^= 0xFF
    items = read(tmp_path, bytes(packed), "a.jsonl.gz")
    assert uris(items) == ["u"]
    assert "CRC" in problems(items)[0][1]


def test_standard_input_is_read_and_its_format_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (ROW, gzip.compress(ROW), b"uri,title\nu,t\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert list(read_source("-")) == [Article(uri="u", title="t")]


def test_options_fill_only_the_fields_that_a_row_lacks(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"uri": "a", "title": "t", "category": "own"}\n{"uri": "b", "title": "t", "category": " "}\n')
    items = list(read_source(str(file), category="given", topic=" T ", news_source=""))
    assert items == [
        Article(uri="a", title="t", category="own", topic="T"),
        Article(uri="b", title="t", category="given", topic="T"),
    ]
    with pytest.raises(UsageError, match="category"):
        read_source(str(file), category="x" * 501)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.jsonl", b"", "empty"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0), "empty"),
        ("broken.jsonl.gz", b"\x1f\x8bnonsense", "damaged"),
        ("picture", b"\x89PNG\r\n\x1a\n\0\0", "neither its extension"),
        ("prose", b"Once upon a time\n", "neither its extension"),
    ],
)
def test_a_file_that_holds_no_articles_is_refused_in_three_lines(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    with pytest.raises(SourceUnreadable) as caught:
        read(tmp_path, data, name)
    assert said in caught.value.why
    assert len(str(caught.value).splitlines()) == 3


def test_what_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path) -> None:
    for source, said in (
        (str(tmp_path / "none.jsonl"), "No such file"),
        (str(tmp_path), "directory"),
        ("nul\0.jsonl", "null"),
        ("https://example.org/feed.xml", "network"),
        (str(tmp_path / "\udcff"), "No such file"),
    ):
        with pytest.raises(SourceUnreadable) as caught:
            list(read_source(source))
        assert said in caught.value.why
        assert str(caught.value).encode("utf-8")


ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).map(str.strip)
MAYBE = st.none() | ANY_TEXT.filter(bool)
ARTICLES = st.builds(
    Article,
    uri=ANY_TEXT.filter(bool),
    title=ANY_TEXT.filter(bool),
    summary=MAYBE,
    category=MAYBE,
    raw_text=MAYBE,
    publication_date=st.none() | st.datetimes().map(lambda moment: moment.isoformat()) | st.dates().map(str),
    tags=st.none() | st.lists(ANY_TEXT.filter(bool), min_size=1, unique=True).map(tuple),
    analyzed=st.none() | st.booleans(),
    quality_score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
ON_FILES = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@ON_FILES
@given(articles=st.lists(ARTICLES, min_size=1, max_size=5), packed=st.booleans())
def test_articles_written_as_jsonl_come_back_as_they_were(
    tmp_path: Path, articles: list[Article], packed: bool
) -> None:
    data = "".join(json.dumps(dataclasses.asdict(one), ensure_ascii=packed) + "\n" for one in articles).encode()
    assert read(tmp_path, gzip.compress(data) if packed else data, "a.jsonl") == articles
