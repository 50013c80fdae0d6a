"""How written dates are read: zones, halves of the day, languages, and what is in doubt."""

from __future__ import annotations

import pytest

from everindex.articles.importers.dates import DateContext, iso_date, order_shown, read_date


@pytest.mark.parametrize(
    ("given", "iso"),
    [
        ("Sat, 07 Feb 2026 10:00:00 +01:00", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00:00 +1:00", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00:00 +0100", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00:00 -0000", "2026-02-07T10:00:00+00:00"),
        ("Sat, 07 Feb 2026 10:00:00 CET", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00:00 PST", "2026-02-07T10:00:00-08:00"),
        ("Sat, 07 Feb 2026 10:00:00 PDT", "2026-02-07T10:00:00-07:00"),
        ("Sat, 07 Feb 2026 10:00:00 GMT+2", "2026-02-07T10:00:00+02:00"),
        ("Sat, 07 Feb 2026 10:00:00 GMT+02:00", "2026-02-07T10:00:00+02:00"),
        ("Sat, 07 Feb 2026 10:00:00 UTC-5", "2026-02-07T10:00:00-05:00"),
        ("Sat Feb 07 2026 10:00:00 GMT+0100 (Central European Standard Time)", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00:00 +0100 (CET)", "2026-02-07T10:00:00+01:00"),
        ("Sat Feb  7 10:00:00 2026", "2026-02-07T10:00:00"),
        ("Sat Feb  7 10:00:00 CET 2026", "2026-02-07T10:00:00+01:00"),
        ("Sat, 07 Feb 2026 10:00 Z", "2026-02-07T10:00:00+00:00"),
        ("Saturday, 07-Feb-26 10:00:00 GMT", "2026-02-07T10:00:00+00:00"),
        ("Sat, 7 Feb 2026 10:00:00 Europe/Berlin", "2026-02-07T10:00:00+01:00"),
        ("2026-02-07 10:00:00 CET", "2026-02-07T10:00:00+01:00"),
        ("2026-02-07 10:00 PM", "2026-02-07T22:00:00"),
        ("Sat, 07 Feb 2026 10:00:00 AM", "2026-02-07T10:00:00"),
        ("Sat, 07 Feb 2026 10:00:00 PM", "2026-02-07T22:00:00"),
        ("7 Feb 2026 10:00 pm", "2026-02-07T22:00:00"),
        ("7 Feb 2026 10:00 p.m. EST", "2026-02-07T22:00:00-05:00"),
        ("Feb 7, 2026 12:05 AM", "2026-02-07T00:05:00"),
        ("February 7, 2026 at 10pm", "2026-02-07T22:00:00"),
        ("Saturday, February 7, 2026 - 10:00", "2026-02-07T10:00:00"),
        ("Mon, 01 Sept 2025 10:00:00 +0200", "2025-09-01T10:00:00+02:00"),
        ("sam., 07 févr. 2026 10:00:00 +0100", "2026-02-07T10:00:00+01:00"),
        ("mar. 10 févr. 2026 à 10h30", "2026-02-10T10:30:00"),
        ("1er août 2026", "2026-08-01"),
        ("Sa, 07 Mär 2026 10:00:00 +0100", "2026-03-07T10:00:00+01:00"),
        ("7. März 2026, 10:00 Uhr", "2026-03-07T10:00:00"),
        ("Samstag, 7. März 2026 um 10.30 Uhr", "2026-03-07T10:30:00"),
        ("Di, 08 Dez 2026 10:00:00 MEZ", "2026-12-08T10:00:00+01:00"),
        ("sábado, 7 de febrero de 2026", "2026-02-07"),
        ("07 ene 2026 10:00:00 GMT", "2026-01-07T10:00:00+00:00"),
        ("sab, 07 gen 2026 10:00:00 +0100", "2026-01-07T10:00:00+01:00"),
        ("7 maggio 2026", "2026-05-07"),
        ("Sáb, 07 Fev 2026 10:00:00 -0300", "2026-02-07T10:00:00-03:00"),
        ("segunda-feira, 7 de dezembro de 2026", "2026-12-07"),
        ("za, 07 mrt 2026 10:00:00 +0100", "2026-03-07T10:00:00+01:00"),
        ("zaterdag 7 maart 2026 - 10:00", "2026-03-07T10:00:00"),
        ("lör, 07 maj 2026 10:00:00 +0200", "2026-05-07T10:00:00+02:00"),
        ("7. lutego 2026", "2026-02-07"),
        ("Сб, 07 фев 2026 10:00:00 +0300", "2026-02-07T10:00:00+03:00"),
        ("7 февраля 2026 г.", "2026-02-07"),
        ("07 Şub 2026 10:00:00 +0300", "2026-02-07T10:00:00+03:00"),
        ("2026年2月7日 下午3:05", "2026-02-07T15:05:00"),
        ("2026年02月07日(土) 10:00", "2026-02-07T10:00:00"),
        ("2026년 2월 7일 오전 9:05", "2026-02-07T09:05:00"),
        ("2026. 02. 07. 10:00", "2026-02-07T10:00:00"),
        ("7.2.2026 10:00", "2026-02-07T10:00:00"),
        ("25/12/2026 08:00", "2026-12-25T08:00:00"),
        ("12/25/2026 8:00:00 PM", "2026-12-25T20:00:00"),
        ("2026-02-07T10:00:00 +01:00", "2026-02-07T10:00:00+01:00"),
        ("2026/02/07 10:00:00 +0900", "2026-02-07T10:00:00+09:00"),
        ("Thu, 31 Dec 2026 23:59:60 GMT", "2026-12-31T23:59:59+00:00"),
    ],
)
def test_a_written_date_keeps_its_offset_its_half_of_the_day_and_its_language(given: str, iso: str) -> None:
    reading = read_date(given)
    assert (reading.text, reading.doubt) == (iso, None)


@pytest.mark.parametrize(
    "given",
    [
        "0000-00-00 00:00:00", "Invalid Date", "Wed, 30 Nov -0001 00:00:00 +0000", "-0001-11-30T00:00:00+00:00", "now", "",
        "Sat, 07 Foo 2026 10:00:00 GMT", "31 Feb 2026", "February 2026", "7 February", "2026-02-07 25:00", "22:00 AM 7 Feb 2026",
        "7 Feb 2026 or later", "$7 Feb 2026", "1.2.3.2026", "10:00", "20261301", "tomorrow 2026-02-07", "7 Feb 8 Mar 2026",
    ],
)  # fmt: skip
def test_what_is_no_date_is_never_made_into_one(given: str) -> None:
    reading = read_date(given)
    assert reading.text is None
    assert reading.doubt


def test_a_zone_that_names_several_or_none_leaves_the_time_and_says_so() -> None:
    ist = read_date("Sat, 07 Feb 2026 10:00:00 IST")
    assert ist.text == "2026-02-07T10:00:00"
    assert "IST" in (ist.doubt or "")
    assert read_date("Sat, 07 Feb 2026 10:00:00 IST", DateContext(ist_minutes=330)).text == "2026-02-07T10:00:00+05:30"
    unknown = read_date("Sat, 07 Feb 2026 10:00:00 QQT")
    assert unknown.text == "2026-02-07T10:00:00"
    assert "QQT" in (unknown.doubt or "")
    beyond = read_date("Sat, 07 Feb 2026 10:00:00 +9900")
    assert beyond.text == "2026-02-07T10:00:00"
    assert "+9900" in (beyond.doubt or "")


def test_day_and_month_in_numbers_need_evidence() -> None:
    assert iso_date("2/7/2026 10:00:00 AM") is None
    assert read_date("2/7/2026").is_order_unknown
    assert read_date("2/7/2026 10:00:00 AM", DateContext(is_day_first=False)).text == "2026-02-07T10:00:00"
    assert read_date("02-07-2026", DateContext(is_day_first=True)).text == "2026-07-02"
    assert iso_date("3/3/2026") == "2026-03-03"
    assert [order_shown(text) for text in ("25/12/2026", "12/25/2026 1:00", "2/7/2026", "25.12.2026", 5)] == [
        True, False, None, None, None,
    ]  # fmt: skip
