"""The date parser for every format: a written date becomes ISO-8601 text, with its offset if it has one.

It never guesses. An ambiguous date needs evidence (`DateContext`), which the importers look for in the source; without
it there is no date, or no offset, and `doubt` says which. Independent of the locale and the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Final

from everindex.articles.importers.date_words import ZONE_MINUTES, ignored_words, months, plain_word

#: No real date is longer; this limits the input of the patterns.
MAX_DATE_CHARS: Final = 80
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.,+\-Zz]+)?")
_ISO_SPACED_ZONE = re.compile(r"([0-9-]{10})[T ]([0-9:.,]+) ?(UTC|GMT|[+-][0-9]{2}:?[0-9]{2})")
_ISO_BASIC = re.compile(r"[0-9]{8}(?:T[0-9:.,+\-Z]+)?")
_UNIX = re.compile(r"[0-9]{10}(?:[0-9]{3})?")
_SPACES = re.compile(r"\s+")
_COMMENT = re.compile(r"[(（]([^()（）]{0,60})[)）]")
_EAST_ASIAN_WEEKDAY = re.compile(r"(?:星期|周|週)[一二三四五六日天]|[月火水木金土日]曜日?|[월화수목금토일]요일")
_EAST_ASIAN = (
    (re.compile(r"上午|午前|오전"), " am "),
    (re.compile(r"下午|午後|오후"), " pm "),
    (re.compile(r"(?<=\d) ?[年년月월]\s?"), "-"),
    (re.compile(r"(?<=\d) ?[日号일]"), " "),
    (re.compile(r"(?<=\d) ?[時时点시] ?(?=\d)"), ":"),
    (re.compile(r"(?<=\d) ?[分분] ?(?=\d)"), ":"),
    (re.compile(r"(?<=\d) ?[分分秒분초]"), " "),
)
_HALF = r"([ap])\.? ?m\b\.?"
_TIME = re.compile(
    rf"(?:\b{_HALF}\s*)?(?<![\d:.])(\d{{1,2}})(?:[:h](\d{{2}})(?:[:m](\d{{2}})(?:[.,:]\d{{1,9}})?s?)?)(?![\d:])(?:\s*{_HALF})?",
    re.IGNORECASE,
)
_HOUR = re.compile(rf"()(?<![\d:./-])(\d{{1,2}})()()\s*{_HALF}", re.IGNORECASE)
_DOTTED_TIME = re.compile(r"()(?<![\d.])(\d{1,2})\.(\d{2})()(?=\s*uhr\b)()", re.IGNORECASE)
_OFFSET = re.compile(
    r"\s*(?:(?:gmt|utc)\s?([+\-−])(\d{1,2})(?::?(\d{2}))?|(?:gmt|utc|z)?\s*([+\-−])(\d{2}|\d(?=:)):?(\d{2})?)(?![\d:/.])(?!-\d)",
    re.IGNORECASE,
)
_ZONE_NAME = re.compile(r"\s*([a-z]+(?:[/_-][a-z]+)*)(?![\w'])", re.IGNORECASE)
_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})([-/.]) ?(\d{1,2})\2 ?(\d{1,2})(?!\d)\.?")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-/.]) ?(\d{1,2})\2 ?(\d{4})(?!\d)")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th|er|re|[eè]me|:e|e|[ºª°])\b", re.IGNORECASE)
_TOKEN = re.compile(r"\d+|[^\W\d_]+(?:['ʼ’-][^\W\d_]+)*\.?|[^\s,.\-–—/|·•@]")
_OFFSET_LIMIT = timedelta(hours=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class DateContext:
    """The evidence that a source has given about its dates."""

    is_day_first: bool | None = None
    """Whether the day comes first, as 2 in `2/7/2026`; None without evidence."""

    ist_minutes: int | None = None
    """The meaning of IST in this source, in minutes east of UTC: India 330, Israel 120, Ireland 60."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DateReading:
    """The result of reading a text: ISO-8601 or None, and what could not be read."""

    text: str | None = None
    doubt: str | None = None
    is_order_unknown: bool = False
    """Whether the date could be read if the order of day and month were known."""


NO_CONTEXT: Final = DateContext()
_NOT_A_DATE: Final = DateReading(doubt="it is not a date in a known format")


def iso_date(value: object) -> str | None:
    """The date as ISO-8601 text; None when `value` is not a date with exactly one reading."""
    return read_date(value).text


def read_date(value: object, context: DateContext = NO_CONTEXT) -> DateReading:
    """The date in `value`. `YYYY-MM-DD`, alone or with a time, stays unchanged; everything else is rewritten."""
    if isinstance(value, date):
        return DateReading(text=value.isoformat())
    if isinstance(value, bool) or not isinstance(value, str | int):
        return _NOT_A_DATE
    if isinstance(value, int) and not 0 <= value < 10**13:
        return _NOT_A_DATE
    text = str(value).strip()
    if len(text) > MAX_DATE_CHARS or (text and not text.isascii() and not _digits_are_ascii(text)):
        return _NOT_A_DATE
    try:
        fixed = _read_fixed(text)
        return DateReading(text=fixed) if fixed is not None else _read_written(text, context)
    except (ValueError, OverflowError):  # what datetime raises on near misses
        return _NOT_A_DATE


def is_in_numbers(value: object) -> bool:
    """Whether a text may contain a date whose order of day and month must be known."""
    return isinstance(value, str) and len(value) <= MAX_DATE_CHARS and _YEAR_LAST.search(value) is not None


def order_shown(value: object) -> bool | None:
    """Whether a text like `25/12/2026` (day first: True) or `12/25/2026` (False) shows the order of day and month."""
    if not isinstance(value, str) or len(value) > MAX_DATE_CHARS or not (parts := _YEAR_LAST.search(value)):
        return None
    first, second = int(parts[1]), int(parts[3])
    if parts[2] == "." or (first > 12) == (second > 12) or max(first, second) > 31:
        return None
    return first > 12


def _digits_are_ascii(text: str) -> bool:
    return all(letter.isascii() for letter in text if letter.isdigit())


def _read_fixed(text: str) -> str | None:
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
    return None


def _read_written(text: str, context: DateContext) -> DateReading:
    text = _SPACES.sub(" ", text).replace("。", ".")
    comment = next(iter(_COMMENT.findall(text)), "")
    text = _EAST_ASIAN_WEEKDAY.sub(" ", _COMMENT.sub(" ", text))
    for pattern, plain in _EAST_ASIAN:
        text = pattern.sub(plain, text)
    text = re.sub(r"(?<=\d)T(?=\d)", " ", text)
    moment, zone, doubt = None, None, None
    if clock := _TIME.search(text) or _HOUR.search(text) or _DOTTED_TIME.search(text):
        moment = _time(clock)
        zone, doubt, end = _zone(text, clock.end(), context)
        if end == clock.end() and comment:
            zone, doubt, _ = _zone(comment, 0, context)
        text = f"{text[: clock.start()]} {text[end:]}"
    day = _day(text, context)
    if isinstance(day, DateReading):
        return day
    if moment is None:
        return DateReading(text=day.isoformat())
    return DateReading(text=datetime.combine(day, moment, zone).isoformat(), doubt=doubt)


def _time(clock: re.Match[str]) -> time:
    before, hour_text, minute, second, after = clock.groups()
    hour, half = int(hour_text), (before or after or "").lower()
    if half == "p" and hour < 12:
        hour += 12
    elif half == "a" and hour == 12:
        hour = 0
    elif half == "a" and hour > 12:
        raise ValueError("an hour after noon is marked am")
    return time(hour, int(minute or 0), min(int(second or 0), 59))  # 60: a leap second


def _zone(text: str, start: int, context: DateContext) -> tuple[tzinfo | None, str | None, int]:
    """The zone written at `start`, any doubt about it, and the position where it ends."""
    if found := _OFFSET.match(text, start):
        sign, hours, minutes = found.groups()[:3] if found[1] else found.groups()[3:]
        shift = timedelta(hours=int(hours), minutes=int(minutes or 0)) * (1 if sign == "+" else -1)
        if abs(shift) >= _OFFSET_LIMIT or int(minutes or 0) > 59:
            return None, f"{found[0].strip()} is not an offset from UTC; the time is stored without one", found.end()
        return timezone(shift), None, found.end()
    if not (named := _ZONE_NAME.match(text, start)):
        return None, None, start
    word = named[1].lower()
    if word in ZONE_MINUTES:
        return timezone(timedelta(minutes=ZONE_MINUTES[word])), None, named.end()
    if word == "ist":
        if context.ist_minutes is not None:
            return timezone(timedelta(minutes=context.ist_minutes)), None, named.end()
        reason = (
            "IST can be the time of India, Israel or Ireland, and nothing shows which; the time is stored without "
            "an offset"
        )
        return None, reason, named.end()
    plain = plain_word(word)
    if plain in months() or plain in ignored_words():
        return None, None, start
    if "/" in word and (place := _place(named[1])) is not None:
        return place, None, named.end()
    if named[1].isupper() and 2 <= len(word) <= 5:
        return None, f"the time zone {named[1]} is not known; the time is stored without an offset", named.end()
    return None, None, start


def _place(name: str) -> tzinfo | None:
    from zoneinfo import ZoneInfo  # seldom needed

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return None


def _day(text: str, context: DateContext) -> date | DateReading:
    """The day in the rest of a text, or why it has none."""
    text = _ORDINAL.sub("", text)
    if parts := _YEAR_FIRST.search(text):
        year, first, second = int(parts[1]), int(parts[3]), int(parts[4])
        return date(year, first, second) if _is_said_enough(text, parts) and year >= 1000 else _NOT_A_DATE
    if parts := _YEAR_LAST.search(text):
        if not _is_said_enough(text, parts) or int(parts[4]) < 1000:
            return _NOT_A_DATE
        return _ordered(parts, context)
    numbers: list[str] = []
    words: list[str] = []
    for found in _TOKEN.finditer(text):
        token = found[0]
        if not token[0].isalnum():
            return _NOT_A_DATE
        (numbers if token.isdigit() else words).append(token)
    return _with_named_month(numbers, [plain_word(word.rstrip(".")) for word in words], text)


def _is_said_enough(text: str, parts: re.Match[str]) -> bool:
    """Whether the words around a numeric date do not affect it."""
    rest = f"{text[: parts.start()]} {text[parts.end() :]}"
    return all(plain_word(token.rstrip(".")) in ignored_words() for token in _TOKEN.findall(rest))


def _ordered(parts: re.Match[str], context: DateContext) -> date | DateReading:
    first, second, year = int(parts[1]), int(parts[3]), int(parts[4])
    if parts[2] == "." or first > 12 or first == second:
        return date(year, second, first)
    if second > 12:
        return date(year, first, second)
    if context.is_day_first is None:
        reason = "nothing in the source shows which number is the month"
        return DateReading(doubt=reason, is_order_unknown=True)
    return date(year, second, first) if context.is_day_first else date(year, first, second)


def _with_named_month(numbers: list[str], words: list[str], text: str) -> date | DateReading:
    named = [word for word in words if word in months()]
    if len(named) > 1:  # mar. 10 févr.: mardi, not mars
        named = [word for word in named if word not in ignored_words()]
    if len(named) != 1 or len(numbers) != 2 or any(w not in ignored_words() and w not in months() for w in words):
        return _NOT_A_DATE
    month = months()[named[0]]
    first, second = numbers
    if len(first) == 4 and len(second) <= 2:
        return date(int(first), month, int(second)) if int(first) >= 1000 else _NOT_A_DATE
    if len(first) > 2 or len(second) not in (2, 4) or (len(second) == 4 and int(second) < 1000):
        return _NOT_A_DATE
    if len(second) == 2:
        # two-digit years, only in the order of RFC 822
        if not re.search(r"\d[ -]+[^\W\d_]+\.?[ -]+\d", text):
            return _NOT_A_DATE
        return date(int(second) + (2000 if int(second) < 69 else 1900), month, int(first))
    return date(int(second), month, int(first))
