"""Which ISO-8601 date does a text tell? Months by name are English and independent of the locale."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from itertools import chain

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.,+\-Zz]+)?")
_ISO_SPACED_ZONE = re.compile(r"([0-9-]{10})[T ]([0-9:.,]+) ?(UTC|GMT|[+-][0-9]{2}:?[0-9]{2})")
_ISO_BASIC = re.compile(r"[0-9]{8}(?:T[0-9:.,+\-Z]+)?")
_UNIX = re.compile(r"[0-9]{10}(?:[0-9]{3})?")
_YEAR_FIRST = re.compile(r"([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})(?:[T ]([0-9:]{4,8}))?")
_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?:,? ([0-9:]{4,8}))?")
_DAY_MONTH = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)? ([a-z]{3,9})\.?,? ([0-9]{4})")
_MONTH_DAY = re.compile(r"([a-z]{3,9})\.? ([0-9]{1,2})(?:st|nd|rd|th)?,? ([0-9]{4})")
_RFC_2822 = re.compile(r"(?:[a-z]{3,9},? )?[0-9]{1,2}[ -][a-z]{3,9}[ -][0-9]{2,4},? [0-9]{1,2}:[0-9]{2}.{0,30}")
_MONTH_NAMES = (
    ("january", "february", "march", "april", "may", "june"),
    ("july", "august", "september", "october", "november", "december"),
)
_MONTHS = {
    name[:length]: month for month, name in enumerate(chain(*_MONTH_NAMES), start=1) for length in (3, len(name))
} | {"sept": 9}
#: No date that is meant to be one is longer; it bounds what the patterns are run over.
MAX_DATE_CHARS = 64


def iso_date(value: object) -> str | None:
    """The date as ISO-8601 text, None when `value` is not one that can only be read in one way.

    `YYYY-MM-DD`, alone or with a time, stays as it is. RFC 2822, `2023/2/7`, `7.2.2023`, `7 February 2023`,
    `Feb 7, 2023`, `20230207` and Unix time in seconds or milliseconds (UTC) are rewritten. `2/7/2023` is refused:
    nothing says which number is the month.
    """
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if isinstance(value, int) and not 0 <= value < 10**13:
        return None
    text = str(value).strip()
    if len(text) > MAX_DATE_CHARS:
        return None
    try:
        return _read(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # what datetime and email.utils raise on near misses
        return None


def _read(text: str) -> str | None:
    if _ISO.fullmatch(text):
        datetime.fromisoformat(text.replace("z", "Z"))
        return text
    if parts := _ISO_SPACED_ZONE.fullmatch(text):
        zone = "Z" if parts[3].isalpha() else parts[3]
        return datetime.fromisoformat(f"{parts[1]}T{parts[2]}{zone}").isoformat()
    if _ISO_BASIC.fullmatch(text):
        return (datetime if "T" in text else date).fromisoformat(text).isoformat()
    if _UNIX.fullmatch(text):
        return datetime.fromtimestamp(int(text) / (1000 if len(text) == 13 else 1), UTC).isoformat()
    if parts := _YEAR_FIRST.fullmatch(text):
        return _numbers(parts[1], parts[2], parts[3], parts[4])
    if parts := _DAY_FIRST.fullmatch(text):
        return _numbers(parts[3], parts[2], parts[1], parts[4])
    lowered = text.lower()
    if parts := _DAY_MONTH.fullmatch(lowered):
        return _named_month(parts[3], parts[2], parts[1])
    if parts := _MONTH_DAY.fullmatch(lowered):
        return _named_month(parts[3], parts[1], parts[2])
    if _RFC_2822.fullmatch(lowered):
        return parsedate_to_datetime(text).isoformat()
    return None


def _numbers(year: str, month: str, day: str, time: str | None) -> str:
    found = date(int(year), int(month), int(day)).isoformat()
    if time is None:
        return found
    return datetime.fromisoformat(f"{found}T{time.zfill(5)}").isoformat()


def _named_month(year: str, month: str, day: str) -> str | None:
    number = _MONTHS.get(month)
    return None if number is None else date(int(year), number, int(day)).isoformat()
