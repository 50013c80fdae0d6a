"""The validation of imported rows: what makes a row an article, and the reason given for one that is not."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from everindex.articles.importers import read_row
from everindex.articles.importers.dates import iso_date
from everindex.articles.model import Article, RowProblem


def article(**row: Any) -> Article:
    found = read_row({"uri": "u", "title": "t"} | row, source="s", line=1)
    assert isinstance(found, Article), found
    return found


def reason(**row: Any) -> str:
    found = read_row({"uri": "u", "title": "t"} | row, source="s", line=7)
    assert isinstance(found, RowProblem), found
    assert (found.source, found.line) == ("s", 7)
    return found.reason


@pytest.mark.parametrize(
    ("alias", "field"),
    [
        ("source", "news_source"),
        ("content", "raw_text"),
        ("body", "raw_text"),
        ("text", "raw_text"),
        ("raw_markdown", "raw_text"),
        ("description", "summary"),
    ],
)
def test_a_common_alias_fills_the_field_and_the_fields_own_name_wins(alias: str, field: str) -> None:
    assert getattr(article(**{alias: "from alias"}), field) == "from alias"
    assert getattr(article(**{alias: "from alias", field: "own"}), field) == "own"
    assert getattr(article(**{field: "own", alias: "from alias"}), field) == "own"


def test_url_and_link_stand_for_a_uri_that_is_missing_or_blank() -> None:
    assert read_row({"uri": " ", "url": " x ", " title": "", "title": "t"}, source="s", line=1) == Article(
        uri="x", title="t"
    )
    assert article(uri=None, link="y").uri == "y"
    assert (
        article(published="2023-02-07").publication_date == article(date="2023-02-07").publication_date == "2023-02-07"
    )


def test_a_row_without_uri_or_without_title_and_summary_is_refused() -> None:
    assert reason(uri="  ") == "uri is missing or empty"
    assert "neither title nor summary" in reason(title=" ", raw_text="only the body")
    assert article(title=None, summary="s").summary == "s"


def test_a_uri_or_filter_value_too_large_for_an_index_is_refused_by_its_bytes_not_its_characters() -> None:
    assert article(uri="é" * 1000).uri == "é" * 1000
    assert reason(uri="é" * 1000 + "x") == "uri has 2,001 bytes, but at most 2,000 can be indexed"
    for field in ("category", "topic", "news_source"):
        assert getattr(article(**{field: "x" * 500}), field) == "x" * 500
        assert f"{field} has 501 bytes" in reason(**{field: "x" * 501})


def test_text_that_postgresql_cannot_hold_is_refused_and_the_uri_is_named() -> None:
    found = read_row({"uri": "u", "title": "a\0b"}, source="s", line=1)
    assert isinstance(found, RowProblem)
    assert found.uri == "u"
    assert "NUL" in found.reason
    assert "surrogate" in reason(summary="\ud800")
    assert "NUL" in reason(tags=["a\0"])
    assert "NUL" in reason(uri="\0u")


def test_numbers_become_text_and_objects_are_refused_with_their_kind() -> None:
    assert article(title=2023).title == "2023"
    assert article(uri=5, title=1.5).title == "1.5"
    assert reason(title={"en": "x"}) == "title is an object, not text"
    assert reason(title=["x"]) == "title is a list, not text"
    assert reason(title=True) == "title is true or false, not text"
    assert "too many digits" in reason(title=10**5000)


@pytest.mark.parametrize("row", [None, 1, "text", [1], True, object()])
def test_a_row_that_is_no_object_is_refused(row: object) -> None:
    found = read_row(row, source="s", line=1)
    assert isinstance(found, RowProblem)
    assert "where an object" in found.reason


@pytest.mark.parametrize(
    "text",
    ["2023-02-07", "2023-02-07T10:00:00", "2023-02-07T10:00:00Z", "2023-02-07 10:00", "2023-02-07T10:00:00.5+01:00"],
)
def test_an_iso_8601_date_stays_as_it_is(text: str) -> None:
    assert article(publication_date=text).publication_date == text


@pytest.mark.parametrize(
    ("given", "iso"),
    [
        ("Tue, 07 Feb 2023 10:00:00 GMT", "2023-02-07T10:00:00+00:00"),
        ("7 Feb 2023 10:00:00 +0100", "2023-02-07T10:00:00+01:00"),
        ("2023-02-07 10:00:00 +0000", "2023-02-07T10:00:00+00:00"),
        ("2023-02-07 10:00:00 UTC", "2023-02-07T10:00:00+00:00"),
        ("20230207", "2023-02-07"),
        ("20230207T100000Z", "2023-02-07T10:00:00+00:00"),
        ("2023/2/7", "2023-02-07"),
        ("2023/02/07 9:05", "2023-02-07T09:05:00"),
        ("7.2.2023", "2023-02-07"),
        ("7 February 2023", "2023-02-07"),
        ("1st Sept. 2023", "2023-09-01"),
        ("Feb 7, 2023", "2023-02-07"),
        (1675764000, "2023-02-07T10:00:00+00:00"),
        ("1675764000000", "2023-02-07T10:00:00+00:00"),
        (date(2023, 2, 7), "2023-02-07"),
    ],
)
def test_other_usual_forms_of_a_date_become_iso_8601(given: object, iso: str) -> None:
    assert iso_date(given) == iso


@pytest.mark.parametrize(
    "given",
    [
        "2/7/2023",
        "yesterday",
        "2023-02-30",
        "2023-13-01",
        "2023",
        "2023-02",
        "07 Foo 2023",
        True,
        -1,
        1.5,
        [],
        "1" * 999,
        "\uff12\uff10\uff12\uff13-02-07",
    ],
)
def test_a_date_that_can_be_read_in_two_ways_or_none_is_refused(given: object) -> None:
    assert iso_date(given) is None
    assert "publication_date is not a date" in reason(publication_date=given)


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        (["a", 1, None, " ", "a"], ("a", "1")),
        ("a, b ,,a", ("a", "b")),
        ('["a, b", "c"]', ("a, b", "c")),
        ("['a', 'b']", ("a", "b")),
        ([], None),
        (" ", None),
    ],
)
def test_tags_come_as_a_list_as_words_or_as_a_list_in_a_text(given: object, tags: tuple[str, ...] | None) -> None:
    assert article(tags=given).tags == tags


def test_tags_that_are_no_texts_are_refused() -> None:
    assert reason(tags={"a": 1}) == "tags is an object, not a list of texts"
    assert reason(tags=[{"term": "a"}]) == "tags is an object, not text"
    assert article(tags="[" * 100_000 + "]").tags is not None


@pytest.mark.parametrize(
    ("given", "value"), [("Yes", True), ("FALSE", False), (1, True), (0.0, False), ("on", True), ("n", False)]
)
def test_usual_spellings_of_true_and_false_are_read(given: object, value: bool) -> None:
    assert article(analyzed=given).analyzed is value


def test_scores_are_finite_numbers() -> None:
    assert article(quality_score="0.5", relevance_score=1).relevance_score == 1.0
    for bad in ("nan", float("inf"), "high", True, 10**400, "1e999"):
        assert "quality_score is not a finite number" in reason(quality_score=bad)
    assert "analyzed is neither" in reason(analyzed="maybe")


def test_a_reason_shows_a_value_on_one_line_without_control_characters() -> None:
    shown = reason(publication_date="\x1b[31m\n" + "x" * 1000)
    assert shown.isprintable()
    assert len(shown) < 200
