"""Feeds imported again and again into one table: every article once, whatever window of it a feed shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest

from everindex.articles.importers import read_source
from everindex.articles.ingest.import_rows import ImportReport
from everindex.articles.instance import Instance
from everindex.articles.model import Article

HOME = "https://s.example/"
PAGE = "https://s.example/releases"


def item(number: int, link: str, *, title: str | None = None, day: int | None = None) -> str:
    return (
        f'<item><title>{title or f"Incident {number}"}</title><link>{link}</link><guid isPermaLink="false">inc-{number}</guid>'
        f"<pubDate>{day or number} Feb 2026 10:00:00 GMT</pubDate><description>outage number {number}</description></item>"
    )


@pytest.fixture
def fresh(migrated: str, open_instance: Callable[..., Instance]) -> Instance:
    """An open instance without articles."""
    return open_instance(migrated, EVERINDEX_POOL_SIZE=2)


@pytest.fixture
def take(fresh: Instance, tmp_path: Path) -> Callable[[Sequence[str]], ImportReport]:
    """Imports a feed of these items."""

    def taken(items: Sequence[str]) -> ImportReport:
        feed = tmp_path / "feed.xml"
        channel = f"<title>Status</title><link>{HOME}</link>{''.join(items)}"
        feed.write_text(f'<rss version="2.0"><channel>{channel}</channel></rss>', encoding="utf-8")
        return fresh.import_rows(read_source(str(feed)))

    return taken


def stored(instance: Instance) -> dict[str, str]:
    with psycopg.connect(instance.conninfo) as connection:
        return dict(connection.execute("SELECT uri, title FROM articles ORDER BY uri").fetchall())


Take = Callable[[Sequence[str]], ImportReport]


@pytest.mark.parametrize("link", [HOME, PAGE])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_feed_whose_window_moves_over_entries_of_one_link_loses_none(
    fresh: Instance, take: Take, link: str, size: int
) -> None:
    items = [item(number, link) for number in range(1, 7)]
    for _ in range(2):
        for start in range(len(items) - size + 1):
            take(items[start : start + size])
    assert sorted(stored(fresh).values()) == [f"Incident {number}" for number in range(1, 7)]
    before = stored(fresh)
    report = take(items)
    assert (report.stored.inserted, report.stored.updated, report.stored.unchanged) == (0, 0, 6)
    assert stored(fresh) == before


@pytest.mark.parametrize("link", [HOME, PAGE])
def test_an_entry_of_a_shared_link_whose_id_changes_at_every_import_stays_one(
    fresh: Instance, take: Take, link: str
) -> None:
    """Some publishers make the ids anew whenever they write the feed."""
    for turn in range(3):
        for number in (1, 2, 3):
            take([item(number, link).replace(f"inc-{number}", f"made-{turn}-{number}")])
    assert sorted(stored(fresh).values()) == ["Incident 1", "Incident 2", "Incident 3"]
    whole = [item(number, link).replace(f"inc-{number}", f"made-9-{number}") for number in (1, 2, 3, 4)]
    report = take(whole)
    assert (report.stored.inserted, report.stored.unchanged) == (1, 3)


def test_entries_of_a_shared_link_with_one_title_and_different_times_are_all_kept(fresh: Instance, take: Take) -> None:
    times = ["1 Feb 2026 10:00", "1 Feb 2026 14:00", "7 Feb 2026 10:00"]
    items = [item(9, PAGE)] + [
        item(number, PAGE, title="Elevated errors").replace(f"{number} Feb 2026 10:00", time)
        for number, time in enumerate(times, start=1)
    ]
    for _ in range(2):
        for one in items:
            take([one])
    assert sorted(stored(fresh).values()) == ["Elevated errors"] * 3 + ["Incident 9"]


def test_two_entries_of_one_day_under_one_link_are_kept_both_though_shown_one_at_a_time(
    fresh: Instance, take: Take
) -> None:
    first, second = item(1, PAGE), item(2, PAGE, day=1).replace("10:00", "14:00")
    for one in (first, second, first, second):
        take([one])
    assert sorted(stored(fresh).values()) == ["Incident 1", "Incident 2"]


def test_entries_that_differ_in_their_ids_alone_are_kept_apart_where_a_feed_shows_both(
    fresh: Instance, take: Take
) -> None:
    twins = [item(1, PAGE), item(1, PAGE).replace("inc-1", "inc-2")]
    for _ in range(2):
        take(twins)
    assert sorted(stored(fresh)) == [f"{PAGE}#inc-1", f"{PAGE}#inc-2"]


def test_notes_of_one_link_without_titles_and_dates_are_not_taken_for_one(fresh: Instance, take: Take) -> None:
    note = (
        f'<item><link>{PAGE}</link><guid isPermaLink="false">n{{0}}</guid><description>Note {{0}}</description></item>'
    )
    for number in (1, 2, 3, 1, 2, 3):
        take([note.format(number)])
    assert list(stored(fresh)) == [PAGE, f"{PAGE}#n2", f"{PAGE}#n3"]


def test_an_article_that_an_earlier_version_stored_under_its_link_goes_on_there(fresh: Instance, take: Take) -> None:
    own, shared = "https://s.example/tea", PAGE
    fresh.upsert(
        [
            Article(uri=own, title="Tea", publication_date="2026-02-01T10:00:00+00:00", news_source="Status"),
            Article(uri=shared, title="Incident 3", publication_date="2026-02-03T10:00:00+00:00", news_source="Status"),
            Article(uri=HOME, title="Another site's text", publication_date="2020-01-01"),
            Article(uri="inc-9", title="Bare", publication_date="2026-02-09T10:00:00+00:00", news_source="Status"),
        ]
    )
    edited = item(1, own, title="Tea, corrected", day=1)
    bare = item(9, "", title="Bare").replace("<link></link>", "")
    take([edited, *(item(number, shared) for number in (2, 3, 4)), item(5, HOME), bare])
    assert stored(fresh) == {
        own: "Tea, corrected",
        shared: "Incident 3",
        f"{shared}#inc-2": "Incident 2",
        f"{shared}#inc-4": "Incident 4",
        HOME: "Another site's text",
        f"{HOME}#inc-5": "Incident 5",
        "inc-9": "Bare",
    }


def test_an_article_whose_title_and_date_are_corrected_one_after_the_other_stays_one(
    fresh: Instance, take: Take
) -> None:
    link = "https://s.example/tea"
    for title, day in (("Tea", 1), ("Green tea", 1), ("Green tea", 2)):
        take([item(1, link, title=title, day=day)])
    assert stored(fresh) == {link: "Green tea"}


def test_two_feeds_with_the_same_ids_under_different_links_stay_apart(fresh: Instance, take: Take) -> None:
    take([item(1, "https://a.example/x"), item(2, "https://a.example/x")])
    take([item(1, "https://b.example/x"), item(2, "https://b.example/x")])
    assert list(stored(fresh)) == [f"https://{site}.example/x#inc-{n}" for site in "ab" for n in (1, 2)]


def test_what_could_not_be_read_is_reported_beside_what_was_stored(fresh: Instance, take: Take) -> None:
    report = take([item(1, "https://s.example/1").replace("1 Feb 2026 10:00:00 GMT", "Invalid Date")])
    assert (report.stored.inserted, report.problem_count, report.note_count) == (1, 0, 1)
    assert "'Invalid Date'" in report.notes[0].reason
