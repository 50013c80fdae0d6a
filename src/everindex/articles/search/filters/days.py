"""ISO-8601 dates, and prefixes of them: a year, a month or a day as its first day and the day after its last. Pure."""

from __future__ import annotations

import datetime as dt
import re

from everindex.errors import QueryInvalid

_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
#: An existing year, month or day, from 0001 to 9999; a time of day after it is ignored. Valid in ECMA-262 as well.
DATE_PATTERN = (
    "(?!0000)(?:[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|1[0-9]|2[0-8]))?|-(?:0[13-9]|1[0-2])-(?:29|30)"
    f"|-(?:0[13578]|1[02])-31)?|{_LEAP}-02-29)(?:[T ][-+0-9:.Z]*)?"
)
_IS_DATE = re.compile(DATE_PATTERN)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


def first_day(text: str, *, name: str) -> dt.date:
    """The first day of an ISO-8601 date or prefix (`2023`, `2023-02`, `2023-02-07`). Raises QueryInvalid."""
    match = _DATE.match(text) if _IS_DATE.fullmatch(text) else None
    if match is None:
        raise QueryInvalid(
            f"{name} is not a date: {text[:40]!r}.",
            why="dates are ISO-8601: a year, a month or a day.",
            next_step="write it as 2023, 2023-02 or 2023-02-07.",
        )
    return dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1))


def day_after(text: str, *, name: str) -> dt.date | None:
    """The first day after an ISO-8601 date or prefix, so that `until=2023-02` includes all of February; None after 9999."""
    first = first_day(text, name=name)
    match = _DATE.match(text)
    assert match is not None  # first_day refuses what does not match
    try:
        if match[3]:
            return first + dt.timedelta(days=1)
        if match[2]:
            return (first.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
        return first.replace(year=first.year + 1)
    except (ValueError, OverflowError):
        return None
