"""What comes out of RSS and Atom, and what a hostile feed costs."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from pathlib import Path

import pytest

from everindex.articles.importers import read_source
from everindex.articles.importers.html_text import html_text
from everindex.articles.model import Article, RowProblem
from everindex.errors import SourceUnreadable

RSS = """<?xml version="1.0" encoding="{encoding}"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>The Feed</title>
<item><title>Tea &amp;amp; &lt;i&gt;caf\u00e9&lt;/i&gt;</title><link>https://example.org/1</link>
  <description>&lt;p>One &lt;b>t&lt;/b>wo&lt;br>three&lt;script>bad()&lt;/script>&lt;/p></description>
  <content:encoded><![CDATA[<h1>Head</h1><p>Body &lt; tail</p>]]></content:encoded>
  <pubDate>Tue, 07 Feb 2023 10:00:00 +0100</pubDate><category>x</category><category>y</category></item>
<item><title>Second</title><guid isPermaLink="false">tag:2</guid><description>5 &lt; 6</description></item>
<item><title>Third</title></item>
<item><title>Fourth</title><link>https://example.org/4</link><pubDate>soon</pubDate></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Atomic</title>
<entry><id>urn:1</id><title type="html">A &lt;b&gt;bold&lt;/b&gt; one</title><link href="https://example.org/a"/>
<summary>plain</summary><updated>2023-02-07T10:00:00Z</updated><category term="t" label="Label"/>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>One</p><p>Two</p></div></content></entry>
<entry><id>urn:2</id><title>No link</title><source><title>Elsewhere</title></source></entry></feed>"""


def read(path: Path, data: str | bytes, name: str = "feed.xml", **options: str) -> list[Article | RowProblem]:
    file = path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_source(str(file), format=None, **options))


def bomb(tmp_path: Path, data: bytes) -> list[Article | RowProblem] | SourceUnreadable:
    """What reading `data` ends in, within 5 s and 5 MB of Python's memory."""
    tracemalloc.start()
    begin = time.process_time()
    found = _outcome(tmp_path, data)
    assert time.process_time() - begin < 5
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 5e6
    return found


def _outcome(tmp_path: Path, data: bytes) -> list[Article | RowProblem] | SourceUnreadable:
    try:
        return read(tmp_path, data)
    except SourceUnreadable as refusal:
        return refusal


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16"])
def test_rss_entries_become_articles_and_problems_carry_the_number_of_the_entry(tmp_path: Path, encoding: str) -> None:
    first, second, third, fourth, note = read(tmp_path, RSS.format(encoding=encoding).encode(encoding), "feed")
    assert first == Article(
        uri="https://example.org/1",
        title="Tea & café",
        summary="One two\nthree",
        news_source="The Feed",
        publication_date="2023-02-07T10:00:00+01:00",
        tags=("x", "y"),
        raw_text="Head\nBody < tail",
    )
    assert second == Article(uri="tag:2", title="Second", summary="5 < 6", news_source="The Feed")
    assert isinstance(third, RowProblem)
    assert (third.line, third.reason) == (3, "uri is missing or empty")
    assert fourth == Article(uri="https://example.org/4", title="Fourth", news_source="The Feed")
    assert isinstance(note, RowProblem)
    assert (note.line, note.uri, note.is_note) == (4, "https://example.org/4", True)
    assert "'soon'" in note.reason


def test_atom_entries_become_articles_and_an_entrys_own_source_wins_over_the_option(tmp_path: Path) -> None:
    first, second = read(tmp_path, ATOM, "feed.atom", news_source="Given")
    assert first == Article(
        uri="https://example.org/a",
        title="A bold one",
        summary="plain",
        news_source="Given",
        publication_date="2023-02-07T10:00:00Z",
        tags=("Label",),
        raw_text="One\nTwo",
    )
    assert second == Article(uri="urn:2", title="No link", news_source="Elsewhere")


def test_a_small_broken_feed_gives_its_entries_and_says_where_it_is_broken(tmp_path: Path) -> None:
    items = read(tmp_path, RSS.format(encoding="utf-8").replace("</guid>", "</gud>"))
    assert isinstance(items[0], Article)
    assert isinstance(items[-1], RowProblem)
    assert "XML is broken" in items[-1].reason
    assert "line 7" in items[-1].reason


def test_the_last_entry_of_a_feed_that_was_cut_is_not_taken_for_whole(tmp_path: Path) -> None:
    text = RSS.format(encoding="utf-8")
    items = read(tmp_path, text[: text.index("</title><guid")])
    assert [type(item) for item in items] == [Article, RowProblem, RowProblem]
    assert isinstance(items[1], RowProblem)
    assert "ends within this entry" in items[1].reason
    packed = gzip.compress(text.encode())
    cut = read(tmp_path, packed[:-40], "feed.xml.gz")
    assert isinstance(cut[-1], RowProblem)
    assert "the rest could not be read" in cut[-1].reason


def test_an_entry_with_bytes_of_another_encoding_is_refused_alone(tmp_path: Path) -> None:
    items = read(tmp_path, RSS.format(encoding="utf-8").encode().replace(b"Second", b"Sec\xffond"))
    assert isinstance(items[0], Article)
    assert isinstance(items[1], RowProblem)
    assert "encoding" in items[1].reason


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("<html><body><p>no feed</p></body></html>", "neither RSS nor Atom"),
        ("<opml version='2.0'><body><outline xmlUrl='https://example.org'/></body></opml>", "OPML"),
        ("<!-- nothing -->", "no XML element"),
        (" " * 10, "no XML element"),
    ],
)
def test_xml_that_is_no_feed_is_refused_with_the_reason(tmp_path: Path, data: str, said: str) -> None:
    with pytest.raises(SourceUnreadable) as caught:
        read(tmp_path, data)
    assert said in caught.value.why


def test_an_entity_expansion_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    laughs = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY l0 "lol">{levels}]><rss version="2.0"><channel><item>'
    hidden = laughs.replace("[<!ENTITY l0", "[<!-- <a --><!ENTITY l0")
    for start in (laughs, hidden):
        found = bomb(tmp_path, f"{start}<title>&l11;</title></item></channel></rss>".encode())
        assert isinstance(found, SourceUnreadable)
        assert "entities" in found.why


def test_an_external_entity_is_never_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hush")
    for declared in (f'<!ENTITY x SYSTEM "{secret.as_uri()}">', f'<!ENTITY % x SYSTEM "{secret.as_uri()}"> %x;'):
        feed = f'<!DOCTYPE rss [{declared}]><rss version="2.0"><channel><item><title>&x;</title></item></channel></rss>'
        assert isinstance(bomb(tmp_path, feed.encode()), SourceUnreadable)
    entry = '<rss version="2.0"><channel><item><link>u</link><title>&x;</title></item></channel></rss>'
    assert "hush" not in str(read(tmp_path, f'<!DOCTYPE rss SYSTEM "{secret.as_uri()}">{entry}'))


def test_the_content_of_a_feed_is_never_taken_for_the_name_of_a_file(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.rss"
    hidden.write_text(RSS.format(encoding="utf-8"))
    with pytest.raises(SourceUnreadable):
        read(tmp_path, str(hidden), "feed.rss")


def test_a_feed_above_50_megabytes_is_refused_even_when_packed(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable) as caught:
        read(tmp_path, gzip.compress(b"<rss>" + b" " * 50_000_000, 1), "feed.xml.gz")
    assert "50 MB" in caught.value.why


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a <b>b</b>c<br/>d", "a bc\nd"),
        ('<a title="x > y" href=z>link</a>', "link"),
        ("1 < 2 &amp; 3 > 2", "1 < 2 & 3 > 2"),
        ("a<!-- <p>no</p> -->b", "ab"),
        ("a<script>x<y</script>b<style>c", "ab"),
        ("<p>a\n b</p><p>c</p>", "a b\nc"),
        ("&#" + "1" * 5000 + ";&#0;&#xD800;", "\ufffd" * 3),
    ],
)
def test_html_becomes_the_text_that_it_shows(markup: str, text: str) -> None:
    assert html_text(markup) == text


@pytest.mark.parametrize("piece", ["<!--", "<a ", "</a", "<", "<![", '<a href="', "<?", "<script>", "&#"])
def test_stripping_html_takes_linear_time(piece: str) -> None:
    begin = time.process_time()
    html_text(piece * 200_000)
    assert time.process_time() - begin < 3
