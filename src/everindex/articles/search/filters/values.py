"""The values of the filter language: of a program or of JSON, each with its kind and the text by which PostgreSQL reads it."""

from __future__ import annotations

import datetime as dt
import math
import numbers
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

from everindex.articles.search.filters.filter_errors import wrong

MAX_VALUE_CHARS = 2000
#: Beyond this, a double precision number is infinite.
_MOST_NUMBER = 1e308

ValueKind = Literal["null", "text", "number", "boolean", "date", "time"]


class Value(NamedTuple):
    """One value: its kind, and the text by which PostgreSQL reads it."""

    kind: ValueKind
    text: str


def value_of(given: object, where: str) -> Value:
    """One value of a program or of JSON. Raises FilterInvalid for another one."""
    match given:
        case None:
            return Value("null", "")
        case bool():
            return Value("boolean", "true" if given else "false")
        case str():
            return Value("text", _text(given, where))
        case int():
            return _number(given, where)
        case float():
            return _number(float(given), where)
        case Decimal():
            return _number(given, where)
        case dt.datetime():
            return Value("time", given.isoformat())
        case dt.date():
            return Value("date", given.isoformat())
        case uuid.UUID():
            return Value("text", str(given))
        case numbers.Integral():
            return value_of(int(given), where)
        case numbers.Real():
            return value_of(float(given), where)
        case list() | tuple() | set() | frozenset():
            raise wrong(
                where, "a list cannot be compared as a whole", "a column or member is compared with one value.",
                "use $in; of an array, $in finds the rows that have one of the values, $eq those that have one value.",
            )  # fmt: skip
        case Mapping():
            raise wrong(where, "a mapping cannot be a value", "values are texts, numbers, booleans, dates and null.",
                        "name the member that is compared.")  # fmt: skip
        case _ if type(given).__name__ in ("bool", "bool_"):  # numpy's
            return value_of(bool(given), where)
        case _:
            raise wrong(
                where, f"a value of type {type(given).__name__} cannot be compared",
                "values are texts, numbers, booleans, dates and null.", "convert it.",
            )  # fmt: skip


def _text(given: str, where: str) -> str:
    text = str(given)
    if "\0" in text or len(text) > MAX_VALUE_CHARS or not is_unicode(text):
        raise wrong(
            where, "no row can have this text",
            f"it is not Unicode, contains a NUL, or has more than {MAX_VALUE_CHARS:,} characters.", "correct the value.",
        )  # fmt: skip
    return text


def _number(given: int | float | Decimal, where: str) -> Value:
    try:
        as_double = float(given)
    except (OverflowError, ValueError):
        as_double = math.inf
    if not abs(as_double) <= _MOST_NUMBER or (as_double == 0 and given != 0):
        raise wrong(
            where, "this number cannot be compared", f"numbers are finite, and at most {_MOST_NUMBER:g}.",
            "pass a number of ordinary size.",
        )  # fmt: skip
    return Value("number", repr(given) if isinstance(given, float) else str(given))


def is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False
