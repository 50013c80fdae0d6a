"""Sources that are hostile or damaged: what they cost, and that any bytes end in articles, problems or a refusal."""

from __future__ import annotations

import dataclasses
import gzip
import string
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everindex.articles.importers import Format, read_source
from everindex.articles.importers.feed_repair import repaired
from everindex.articles.model import Article, RowProblem
from everindex.errors import SourceUnreadable


def read(path: Path, data: bytes, name: str, format: Format | None = None) -> list[Article | RowProblem]:
    (path / name).write_bytes(data)
    return list(read_source(str(path / name), format=format))


@pytest.mark.parametrize(
    "filling",
    ["<a>" * 60_000, "<a " * 80_000, '<a b="' * 40_000, "<a></b>" * 35_000, "&lt;!--" * 30_000, "<item><title>" * 100],
)
def test_a_hostile_feed_costs_seconds_at_most(tmp_path: Path, filling: str) -> None:
    start = "<rss version='2.0'><channel><item><link>u</link><title>t</title><description>"
    begin = time.process_time()
    with suppress(SourceUnreadable):
        read(tmp_path, (start + filling).encode(), "feed.xml")
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "piece", ["&", "<![CDATA[", "<!--", "&#", "&a", "\x00", "&#x", "<item ", "<item>", "</item>", "<item><![CDATA["]
)
def test_mending_takes_linear_time(tmp_path: Path, piece: str) -> None:
    begin = time.process_time()
    repaired(piece * 200_000)
    with suppress(SourceUnreadable):
        read(tmp_path, b"<rss version='2.0'><channel><item><title>" + piece.encode() * 100_000, "feed.xml")
    assert time.process_time() - begin < 8


# fmt: off
PIECES = st.sampled_from([
    b"uri,title\n", b'{"uri": "u", "title": ', b"1e999", b"[", b"]", b",", b'"', b"\n", b"\r", b"\0", b"\xff\xfe", b"}",
    b"\xef\xbb\xbf", b"\x1f\x8b", b"<rss version='2.0'>", b"<item>", b"<title>&lt;b", b"</item>", b"<link>a</link>",
    b"<?xml version='1.0' encoding='utf-7'?>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#99999999;", b"]]>",
    b"<feed xmlns='http://www.w3.org/2005/Atom'>", b"<entry>", b"<updated>", b"2023-02-07", b"<![CDATA[", b"<!--",
])
# fmt: on
BYTES = st.binary(max_size=200) | st.lists(PIECES | st.binary(max_size=6), max_size=25).map(b"".join)
FORMATS: list[Format | None] = [None, "jsonl", "csv", "feed"]


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=BYTES, format=st.sampled_from(FORMATS), packed=st.booleans())
def test_any_bytes_end_as_articles_problems_or_a_refusal(
    tmp_path: Path, data: bytes, format: Format | None, packed: bool
) -> None:
    try:
        items = read(tmp_path, gzip.compress(data) if packed else data, "any", format)
    except SourceUnreadable:
        return
    for item in items:
        match item:
            case Article():
                assert item.uri.strip()
                assert item.title or item.summary
                assert "\0" not in "".join(str(value) for value in dataclasses.astuple(item))
                assert repr(dataclasses.astuple(item)).encode("utf-8")
            case RowProblem():
                assert item.line >= 1
                assert set(item.reason) <= set(string.printable) - set("\n\r\x0b\x0c") or item.reason.isprintable()
