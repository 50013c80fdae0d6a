"""Texts in encodings other than UTF-8, as browsers read them, and what is broken of XML and JSON Feed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everindex.articles.importers import read_source
from everindex.articles.importers.text_encodings import codec_of, decode_text
from everindex.articles.model import Article, RowProblem
from everindex.errors import UsageError


def read(path: Path, data: bytes, name: str, **options: str) -> list[Article | RowProblem]:
    (path / name).write_bytes(data)
    return list(read_source(str(path / name), format=None, **options))


def titles(items: list[Article | RowProblem]) -> list[str | None]:
    return [item.title for item in items if isinstance(item, Article)]


def problems(items: list[Article | RowProblem]) -> list[RowProblem]:
    return [item for item in items if isinstance(item, RowProblem)]


def feed(*names: str, encoding: str = "utf-8") -> str:
    items = "".join(
        f"<item><title>{name}</title><link>https://a.example/{number}</link></item>"
        for number, name in enumerate(names)
    )
    return f'<?xml version="1.0" encoding="{encoding}"?><rss version="2.0"><channel><title>F</title>{items}</channel></rss>'


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("gb2312", "gbk", "朱镕基"),
        ("GBK", "gb18030", "㐀𠀀"),
        ("Shift_JIS", "cp932", "①会議～髙橋"),
        ("euc-kr", "cp949", "똠방각하"),
        ("ks_c_5601-1987", "cp949", "펲"),
        ("big5", "cp950", "台北碁"),
        ("iso-8859-1", "cp1252", "“naïve” – €"),
        ("iso-8859-9", "cp1254", "ışık “x”"),
        ("tis-620", "cp874", "ไทย"),
        ("koi8-r", "koi8-r", "чай"),
    ],
)
def test_a_label_stands_for_what_browsers_decode_under_it(tmp_path: Path, label: str, codec: str, text: str) -> None:
    assert titles(read(tmp_path, feed(text, "x", encoding=label).encode(codec), "feed.xml")) == [text, "x"]
    rows = read(tmp_path, f"url;title\nhttps://a.example/1;{text}\n".encode(codec), "a.csv", encoding=label)
    assert titles(rows) == [text]
    line = json.dumps({"uri": "u", "title": text}, ensure_ascii=False) + "\n"
    assert titles(read(tmp_path, line.encode(codec), "a.jsonl", encoding=label)) == [text]


def test_the_rows_that_nec_added_to_euc_jp_are_decoded() -> None:
    assert decode_text(b"\xad\xa1\xad\xea\xb3\xf4", "euc-jp") == ("①㈱株", False)
    assert decode_text(b"\xb3\xf4\xff", "euc-jp") == ("株\ufffd", True)


def test_utf_8_wins_over_a_declaration_that_was_left_behind(tmp_path: Path) -> None:
    for label in ("iso-8859-1", "utf-16", "gb2312"):
        data = feed("Über naïve Cafés — ‘größer’ 新闻茶叶内容会议", encoding=label).encode()
        assert titles(read(tmp_path, data, "feed.xml")) == ["Über naïve Cafés — ‘größer’ 新闻茶叶内容会议"]
    assert decode_text("联通".encode("gbk"), "gb2312")[0] == "联通"  # valid UTF-8 by chance


def test_bytes_that_are_no_utf_8_anywhere_are_read_as_browsers_do(tmp_path: Path) -> None:
    assert titles(read(tmp_path, feed("Café “x”").encode("cp1252"), "feed.xml")) == ["Café “x”"]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_utf_16_and_marks_of_byte_order_are_read_in_every_format(tmp_path: Path, codec: str) -> None:
    assert titles(read(tmp_path, feed("Tee é").encode(codec), "feed.xml")) == ["Tee é"]
    assert titles(read(tmp_path, 'URL\tTitle\r\nhttps://a.example/1\t"Tee\r\né"\r\n'.encode(codec), "a.csv")) == [
        "Tee\r\né"
    ]
    assert titles(read(tmp_path, "url,title\nu,é\n".encode(codec), "noending")) == ["é"]
    assert titles(read(tmp_path, '{"uri": "u", "title": "é"}\n'.encode(codec), "a.jsonl")) == ["é"]


def test_a_row_with_bytes_of_another_encoding_is_refused_alone_and_says_how_to_go_on(tmp_path: Path) -> None:
    items = read(tmp_path, b"uri,title\na,caf\xe9\nb,t\n", "a.csv")
    assert titles(items) == ["t"]
    assert "--encoding" in problems(items)[0].reason
    items = read(tmp_path, b"uri,title\na,\xff\xff\nb,t\n", "a.csv", encoding="euc-kr")
    assert titles(items) == ["t"]
    assert "cp949" in problems(items)[0].reason
    with pytest.raises(UsageError, match="rot13"):
        read(tmp_path, b"uri,title\n", "a.csv", encoding="rot13")
    assert codec_of("punycode") is None


FILLING = "lorem ipsum " * 3000


def large(*middle: str) -> bytes:
    """A feed above 256 kB: ten good entries with `middle` after the fifth."""
    good = [
        f"<item><title>Post {n}</title><link>https://a.example/{n}</link><description>{FILLING}</description></item>"
        for n in range(10)
    ]
    items = "\n".join([*good[:5], *middle, *good[5:]])
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>Big</title><link>https://a.example/</link>{items}</channel></rss>'.encode()


POSTS = [f"Post {n}" for n in range(10)]


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("a&nbsp;b&eacute;", "a bé"),
        ("Tea & Co, A&B &unknown; &", "Tea & Co, A&B &unknown; &"),
        ("x&#0;\x08&#x1F;y", "xy"),
        ("&#146;", "’"),
        ("<![CDATA[a & b &nbsp;]]>\x0c", "a & b"),
        ("5 &lt; 6 &amp; 7", "5 < 6 & 7"),
    ],
)
def test_a_large_feed_with_a_stray_character_or_an_entity_of_html_is_read_whole(
    tmp_path: Path, title: str, shown: str
) -> None:
    item = f"<item><title>{title}</title><link>https://a.example/odd</link></item>"
    items = read(tmp_path, large(item), "feed.xml")
    assert titles(items) == [*POSTS[:5], shown, *POSTS[5:]]
    assert all(problem.is_note for problem in problems(items))


def test_entities_of_html_are_read_in_a_feed_that_names_a_dtd(tmp_path: Path) -> None:
    dtd = '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.netscape.com/rss-0.91.dtd">'
    items = read(tmp_path, feed("caf&eacute;&nbsp;&#0;x").replace("<rss", f"{dtd}<rss").encode(), "feed.xml")
    assert titles(items) == ["café x"]


@pytest.mark.parametrize(
    "odd", ["<item><title>bad <b>x</title></item>", "<item><title>a < b</title><link>u</link></i>", "<item><item/>"]
)
def test_a_large_broken_feed_gives_its_good_entries_and_says_what_was_lost(tmp_path: Path, odd: str) -> None:
    items = read(tmp_path, large(odd), "feed.xml")
    found = [title for title in titles(items) if title in POSTS]
    assert len(found) >= 9
    assert problems(items) or len(items) == 11


def test_a_large_feed_that_was_cut_gives_its_whole_entries(tmp_path: Path) -> None:
    data = large()
    items = read(tmp_path, data[: data.index(b"Post 9") + 60], "feed.xml")
    assert titles(items) == POSTS[:9]
    assert "ends within this entry" in problems(items)[0].reason
    cut_after = read(tmp_path, data[: data.rindex(b"</channel>")], "feed.xml")
    assert titles(cut_after)[:9] == POSTS[:9]


def test_a_large_broken_atom_feed_and_rdf_are_cut_into_their_entries(tmp_path: Path) -> None:
    entries = "".join(
        f'<a:entry><a:title>Post {n}</a:title><a:link href="https://a.example/{n}"/><a:summary>{FILLING}</a:summary></a:entry>'
        for n in range(10)
    )
    atom = f'<a:feed xmlns:a="http://www.w3.org/2005/Atom"><a:title>F</a:title><a:entry><a:title>x</b></a:title></a:entry>{entries}</a:feed>'
    assert titles(read(tmp_path, atom.encode(), "feed.xml"))[-10:] == POSTS
    rdf_items = "".join(
        f'<item rdf:about="https://a.example/{n}"><title>Post {n}</title><link>https://a.example/{n}</link><description>{FILLING}</description></item>'
        for n in range(10)
    )
    rdf = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/">'
        '<channel rdf:about="https://a.example/"><title>F</title><items><rdf:Seq/></items></channel>'
        f"<item><title>x</b></title></item>{rdf_items}</rdf:RDF>"
    )
    assert titles(read(tmp_path, rdf.encode(), "feed.xml"))[-10:] == POSTS


JSON_FEED = {
    "version": "https://jsonfeed.org/version/1.1",
    "title": "J",
    "home_page_url": "https://j.example/",
    "language": "en",
    "items": [
        {"id": "2", "url": "/2", "title": "Two &", "content_html": "<p>Hello <b>two</b></p>", "summary": "s",
         "date_published": "2026-02-07T10:00:00Z", "tags": ["a", "b"]},
        {"id": "https://j.example/1", "content_text": "Note without a title", "date_modified": "2026-02-06T10:00:00-05:00"},
        {"id": 3, "content_text": "number",
         "attachments": [{"url": "https://j.example/3.mp3", "mime_type": "audio/mpeg", "title": "Song"}]},
        {"id": "x", "external_url": "https://elsewhere.example/", "title": "Linked"},
        "no object",
        {"title": "no id"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["feed.json", "feed", "feed.xml", "feed.jsonl"])
@pytest.mark.parametrize("style", ["plain", "indented", "php"])
def test_a_json_feed_is_known_by_its_content_and_becomes_articles(tmp_path: Path, name: str, style: str) -> None:
    text = json.dumps(JSON_FEED, indent=1 if style == "indented" else None)
    text = text.replace("/", "\\/") if style == "php" else text
    first, second, third, fourth, *rest = read(tmp_path, text.encode(), name)
    assert first == Article(
        uri="https://j.example/2", title="Two &", summary="s", raw_text="Hello two", news_source="J",
        publication_date="2026-02-07T10:00:00Z", tags=("a", "b"),
    )  # fmt: skip
    assert second == Article(
        uri="https://j.example/1", summary="Note without a title", raw_text="Note without a title", news_source="J",
        publication_date="2026-02-06T10:00:00-05:00",
    )  # fmt: skip
    assert isinstance(third, Article)
    assert third.uri == "https://j.example/#3"
    assert isinstance(fourth, Article)
    assert fourth.uri == "https://j.example/#x"
    assert [problem.line for problem in rest if isinstance(problem, RowProblem)] == [5, 6]


def test_a_json_feed_that_was_cut_gives_the_items_before(tmp_path: Path) -> None:
    text = json.dumps(JSON_FEED)
    items = read(tmp_path, text[: text.index("number")].encode(), "feed.json")
    assert [item.uri for item in items if isinstance(item, Article)] == ["https://j.example/2", "https://j.example/1"]
    assert "the rest could not be read" in problems(items)[-1].reason


@pytest.mark.parametrize(
    "data",
    [
        "sep=;\r\nurl;title;summary\r\nhttps://a.example/1;\"Tea; green\";=SUM(1,5)\r\n",
        "\ufeffsep=;\r\nURL;Title;SUMMARY\r\nhttps://a.example/1;\"Tea; green\";=SUM(1,5)\r\n",
        "url|title|summary\nhttps://a.example/1|Tea; green|=SUM(1,5)\n",
        "sep=^\nurl^title^summary\nhttps://a.example/1^Tea; green^=SUM(1,5)\n",
        "Url\tTitle\tSummary\nhttps://a.example/1\tTea; green\t=SUM(1,5)\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.csv", "noending"])
def test_tables_with_other_delimiters_are_read(tmp_path: Path, data: str, name: str) -> None:
    assert read(tmp_path, data.encode(), name) == [
        Article(uri="https://a.example/1", title="Tea; green", summary="=SUM(1,5)")
    ]


@pytest.mark.parametrize("name", ["a.csv", "noending"])
def test_a_table_whose_lines_end_with_carriage_returns_alone_is_read(tmp_path: Path, name: str) -> None:
    items = read(tmp_path, b"url;title\rhttps://a.example/1;A\rhttps://a.example/2;\r", name)
    assert titles(items) == ["A"]
    assert [problem.line for problem in problems(items)] == [3]


def test_a_date_that_cannot_be_read_costs_a_row_of_a_table_only_its_date(tmp_path: Path) -> None:
    data = b"uri,title,date\na,t,Invalid Date\nb,t,2/7/2026\n,t,\nc,t,25/2/2026\nd,t,3/4/2026\n"
    items = read(tmp_path, data, "a.csv")
    dates = {item.uri: item.publication_date for item in items if isinstance(item, Article)}
    assert dates == {"a": None, "b": "2026-07-02", "c": "2026-02-25", "d": "2026-04-03"}
    assert [(problem.line, problem.is_note) for problem in problems(items)] == [(2, True), (4, False)]
    both = read(tmp_path, data + b"e,t,2/25/2026\nf,t,3/4/2026\n", "a.csv")
    assert [item.publication_date for item in both if isinstance(item, Article)][-2:] == ["2026-02-25", None]
