"""`everindex saved`, as somebody who searches runs it."""

from __future__ import annotations

import pytest

from command_line import everindex, url_of


def test_a_search_is_saved_shown_and_removed(filled: str) -> None:
    url = url_of(filled)
    assert "there are no saved searches" in everindex("saved", DATABASE_URL=url).stdout
    made = everindex(
        "saved", "add", "leaks", "memory leak", "--category", "Library", "--min-similarity", "0.3", DATABASE_URL=url
    )
    assert (made.status, made.stdout) == (
        0, "leaks: 'memory leak' · hybrid · {\"category\": \"Library\"} · similarity 0.3 or more\n",
    )  # fmt: skip
    assert everindex("saved", "add", "newest", "--where", '{"topic": {"$ne": "x"}}', DATABASE_URL=url).status == 0

    shown = everindex("saved", "show", "leaks", "-k", "3", "--json", DATABASE_URL=url).json
    dates = [hit["publication_date"] for hit in shown["newest"]["hits"]]
    assert (len(dates), dates) == (3, sorted(dates, reverse=True))
    assert {hit["category"] for hit in shown["newest"]["hits"]} == {"Library"}
    assert "leaks: 'memory leak'" in everindex("saved", "show", "leaks", DATABASE_URL=url).stdout
    listed = everindex("saved", "list", "--json", DATABASE_URL=url).json["saved_searches"]
    assert [(each["name"], each["text"]) for each in listed] == [("leaks", "memory leak"), ("newest", None)]

    again = everindex("saved", "add", "leaks", "x", DATABASE_URL=url)
    assert (again.status, "saved-search-exists" in again.stderr) == (2, True)
    assert everindex("saved", "remove", "leaks", DATABASE_URL=url).status == 0
    missing = everindex("saved", "show", "leaks", DATABASE_URL=url)
    assert (missing.status, "saved-search-not-found" in missing.stderr) == (1, True)


@pytest.mark.parametrize("words", [["add"], ["show"], ["add", "a", "b", "c"], ["make", "x"], ["list", "x"]])
def test_words_that_are_no_command_are_a_usage_error(filled: str, words: list[str]) -> None:
    refused = everindex("saved", *words, DATABASE_URL=url_of(filled))
    assert (refused.status, "next:" in refused.stderr) == (2, True)
