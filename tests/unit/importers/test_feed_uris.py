"""Under which uri an entry of a feed goes: relative links, ids, and several entries with one link."""

from __future__ import annotations

from pathlib import Path

import pytest

from everindex.articles.importers import read_source
from everindex.articles.model import Article, RowProblem
from everindex.errors import UsageError


def read(path: Path, data: str, name: str = "feed.xml", **options: str) -> list[Article | RowProblem]:
    (path / name).write_text(data, encoding="utf-8")
    return list(read_source(str(path / name), format=None, **options))


def uris(items: list[Article | RowProblem]) -> list[str]:
    return [item.uri for item in items if isinstance(item, Article)]


def reasons(items: list[Article | RowProblem]) -> list[str]:
    return [item.reason for item in items if isinstance(item, RowProblem)]


def rss(*items: str, channel: str = "<link>https://a.example/</link>", root: str = "") -> str:
    inner = "".join(f"<item>{item}</item>" for item in items)
    return f'<?xml version="1.0"?><rss version="2.0" {root}><channel><title>F</title>{channel}{inner}</channel></rss>'


def atom(*entries: str, feed: str = "", attributes: str = "") -> str:
    inner = "".join(f"<entry{entry}</entry>" for entry in entries)
    return f'<feed xmlns="http://www.w3.org/2005/Atom" {attributes}><title>F</title><id>urn:f</id>{feed}{inner}</feed>'


@pytest.mark.parametrize(
    ("link", "uri"),
    [
        ("/posts/1", "https://a.example/posts/1"),
        ("posts/1", "https://a.example/blog/posts/1"),
        ("../1", "https://a.example/1"),
        ("?p=1", "https://a.example/blog/?p=1"),
        ("#one", "https://a.example/blog/#one"),
        ("//b.example/1", "https://b.example/1"),
        ("HTTPS://b.example/1", "HTTPS://b.example/1"),
    ],
)
def test_a_relative_link_is_resolved_against_the_page_of_its_feed(tmp_path: Path, link: str, uri: str) -> None:
    channel = "<link>https://a.example/blog/</link>"
    assert uris(read(tmp_path, rss(f"<title>t</title><link>{link}</link>", channel=channel))) == [uri]
    page = '<link href="https://a.example/blog/"/>'
    assert uris(read(tmp_path, atom(f'><title>t</title><link href="{link}"/>', feed=page))) == [uri]


def test_the_base_of_xml_goes_before_the_page_of_the_feed(tmp_path: Path) -> None:
    page = '<link href="https://a.example/"/>'
    based = atom(
        '><title>t</title><link href="1"/>', ' xml:base="own/"><title>u</title><link href="2"/>',
        feed=page, attributes='xml:base="https://b.example/blog/"',
    )  # fmt: skip
    assert uris(read(tmp_path, based)) == ["https://b.example/blog/1", "https://b.example/blog/own/2"]


def test_the_address_of_the_feed_itself_or_an_option_stands_in_for_its_page(tmp_path: Path) -> None:
    item = "<title>t</title><link>/1</link>"
    own = '<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="self" href="https://s.example/feed.xml"/>'
    assert uris(read(tmp_path, rss(item, channel=own))) == ["https://s.example/1"]
    assert uris(read(tmp_path, rss(item, channel="<link>/</link>"), base="https://o.example/feed")) == [
        "https://o.example/1"
    ]
    with pytest.raises(UsageError, match="base"):
        read(tmp_path, rss(item), base="/here")


def test_what_stays_relative_is_refused_with_the_reason(tmp_path: Path) -> None:
    items = read(
        tmp_path,
        rss(
            "<title>t</title><link>/1</link>", '<title>t</title><guid isPermaLink="false">7</guid>',
            "<title>t</title><link>https://x.example/1</link>", '<title>t</title><guid isPermaLink="false">tag:x,2026:1</guid>',
            channel="",
        ),
    )  # fmt: skip
    assert uris(items) == ["https://x.example/1", "tag:x,2026:1"]
    assert all("--base" in reason for reason in reasons(items))
    assert [item.line for item in items if isinstance(item, RowProblem)] == [1, 2]


def test_entries_with_one_link_and_ids_of_their_own_are_articles_of_their_own(tmp_path: Path) -> None:
    for link in ("https://a.example/", "https://a.example/status"):
        items = [
            f'<title>Maintenance</title><link>{link}</link><guid isPermaLink="false">inc {n}</guid>' for n in (1, 2, 3)
        ]
        assert uris(read(tmp_path, rss(*items))) == [f"{link}#inc%20{n}" for n in (1, 2, 3)]
        assert uris(read(tmp_path, rss(*reversed(items)))) == [f"{link}#inc%20{n}" for n in (3, 2, 1)]


def test_an_id_that_is_an_address_is_the_uri_of_an_entry_that_shares_its_link(tmp_path: Path) -> None:
    entry = '><title>t</title><id>https://a.example/incidents/{n}</id><link href="https://a.example/"/>'
    page = '<link href="https://a.example/"/>'
    assert uris(read(tmp_path, atom(*(entry.format(n=n) for n in (1, 2)), feed=page))) == [
        "https://a.example/incidents/1", "https://a.example/incidents/2",
    ]  # fmt: skip


def test_an_entry_with_a_link_of_its_own_goes_under_it_whatever_its_id_is(tmp_path: Path) -> None:
    wordpress = (
        "<title>t</title><link>https://a.example/tea/</link><guid isPermaLink='false'>https://a.example/?p=12</guid>"
    )
    youtube = '><title>t</title><id>yt:video:abc</id><link rel="alternate" href="https://y.example/watch?v=abc"/>'
    assert uris(read(tmp_path, rss(wordpress))) == ["https://a.example/tea/"]
    assert uris(read(tmp_path, atom(youtube))) == ["https://y.example/watch?v=abc"]


@pytest.mark.parametrize("is_newest_first", [True, False])
def test_of_one_link_without_other_ids_the_newest_is_kept_and_that_is_said(
    tmp_path: Path, is_newest_first: bool
) -> None:
    one = "<title>{}</title><link>https://a.example/1</link><pubDate>{} Feb 2026 10:00:00 {}</pubDate>"
    # 09:30 in New York is later than 10:00 in Berlin
    items = [one.format("Corrected", 8, "-0500"), one.format("Wrong", 8, "+0100")]
    found = read(tmp_path, rss(*(items if is_newest_first else items[::-1])))
    assert [item.title for item in found if isinstance(item, Article)] == ["Corrected"]
    (note,) = (item for item in found if isinstance(item, RowProblem))
    assert note.is_note
    assert note.line == (2 if is_newest_first else 1)
    assert "newer" in note.reason


def test_of_two_revisions_of_an_atom_entry_the_one_updated_last_is_kept(tmp_path: Path) -> None:
    entry = (
        '><title>{}</title><id>urn:1</id><link href="https://a.example/1"/><published>2026-02-01T00:00:00Z</published>'
        "<updated>2026-02-{}T00:00:00Z</updated>"
    )
    found = read(tmp_path, atom(entry.format("old", "02"), entry.format("new", "03")))
    assert [item.title for item in found if isinstance(item, Article)] == ["new"]
    assert len(reasons(found)) == 1


def test_a_podcast_episode_without_a_link_goes_under_its_enclosure(tmp_path: Path) -> None:
    item = '<title>Episode</title><enclosure url="https://p.example/1.mp3" length="1" type="audio/mpeg"/>'
    assert uris(read(tmp_path, rss(item))) == ["https://p.example/1.mp3"]


def test_dates_of_a_feed_are_evidence_for_each_other(tmp_path: Path) -> None:
    item = "<title>t{0}</title><link>https://a.example/{0}</link><pubDate>{1}</pubDate>"
    items = read(tmp_path, rss(item.format(1, "2/7/2026"), item.format(2, "2/25/2026")))
    assert [item.publication_date for item in items if isinstance(item, Article)] == ["2026-02-07", "2026-02-25"]
    (article, note) = read(tmp_path, rss(item.format(1, "2/7/2026")))
    assert isinstance(article, Article)
    assert article.publication_date is None
    assert isinstance(note, RowProblem)
    assert "which number is the month" in note.reason
    channel = "<link>https://n.example/</link><language>en-IN</language>"
    (article,) = read(tmp_path, rss(item.format(1, "Sat, 07 Feb 2026 10:00:00 IST"), channel=channel))
    assert isinstance(article, Article)
    assert article.publication_date == "2026-02-07T10:00:00+05:30"


def test_a_date_that_cannot_be_read_gives_way_to_the_next_one_of_the_entry(tmp_path: Path) -> None:
    item = (
        "<title>t</title><link>https://a.example/1</link><pubDate>Invalid Date</pubDate>"
        "<dcterms:modified xmlns:dcterms='http://purl.org/dc/terms/'>2026-02-07T10:00:00Z</dcterms:modified>"
    )
    (article,) = read(tmp_path, rss(item))
    assert isinstance(article, Article)
    assert article.publication_date == "2026-02-07T10:00:00Z"
