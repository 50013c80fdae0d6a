"""The values of a row for every format: mapped to fields, validated, and refused where no article may have them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from everindex.articles.importers.dates import NO_CONTEXT, DateContext, iso_date, read_date
from everindex.articles.model import (
    ARTICLE_FIELDS,
    MAX_FILTER_BYTES,
    MAX_URI_BYTES,
    NEVER,
    Article,
    EntryIdentity,
    RowProblem,
)

ALIASES: Final[dict[str, str]] = {
    "url": "uri",
    "link": "uri",
    "source": "news_source",
    "published": "publication_date",
    "date": "publication_date",
    "content": "raw_text",
    "body": "raw_text",
    "text": "raw_text",
    "raw_markdown": "raw_text",
    "description": "summary",
    "expires": "expires_at",
}
#: Name in a source → field of an article.
FIELD_OF: Final[dict[str, str]] = {name: name for name in ARTICLE_FIELDS} | ALIASES
DATE_FIELDS: Final = frozenset({"publication_date", "submission_date"})
_LIMIT_BYTES: Final[dict[str, int]] = {
    "uri": MAX_URI_BYTES,
    "category": MAX_FILTER_BYTES,
    "topic": MAX_FILTER_BYTES,
    "news_source": MAX_FILTER_BYTES,
}
_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1", "1.0"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0", "0.0"})
_NO_DEFAULTS: Final[dict[str, str]] = {}


class RefusedError(ValueError):
    """A value that no article may have; the message is the reason. Never leaves the importers."""


def column_field(header: str) -> str:
    """The key for a header cell: `Publication Date` is `publication_date`."""
    return "_".join(header.lower().split())


def read_row(
    row: object,
    *,
    source: str,
    line: int,
    defaults: Mapping[str, str] = _NO_DEFAULTS,
    context: DateContext = NO_CONTEXT,
    notes: list[RowProblem] | None = None,
    entry: EntryIdentity | None = None,
) -> Article | RowProblem:
    """The article in a row, or why there is none. `line` is 1-based; `defaults` fill missing fields.

    With `notes`, an unreadable date is left out and a note is added there; without, the row is refused.
    """
    if not isinstance(row, Mapping):
        return RowProblem(
            source=source, line=line, reason=f"{_kind(row)} where an object with named values was expected"
        )
    values: dict[str, Any] = {}
    doubts: list[str] = []
    try:
        found = named_values(row)
        if "uri" not in found:
            raise RefusedError("uri is missing or empty")
        values["uri"] = read_text("uri", found.pop("uri"))
        for name, raw in found.items():
            if notes is None or name not in DATE_FIELDS:
                values[name] = READERS[name](name, raw)
                continue
            reading = read_date(raw, context)
            values[name] = reading.text
            if reading.doubt is not None:
                doubts.append(f"{'' if reading.text else 'stored without '}{name} {_shown(raw)}: {reading.doubt}")
        if values.get("title") is None and values.get("summary") is None:
            raise RefusedError("neither title nor summary, so there is nothing to search")
    except RefusedError as refused:
        return RowProblem(source=source, line=line, reason=str(refused), uri=values.get("uri"))
    for name, value in defaults.items():
        values.setdefault(name, value)
    if notes is not None:
        notes += (
            RowProblem(source=source, line=line, reason=doubt, uri=values["uri"], is_note=True) for doubt in doubts
        )
    return Article(**values, entry=entry)


def named_values(row: Mapping[Any, object]) -> dict[str, object]:
    """The non-empty values by field. A field's own name wins over an alias, and an earlier alias over a later one."""
    found: dict[str, object] = {}
    for key, given in row.items():
        name = FIELD_OF.get(key) if isinstance(key, str) else None
        value = given.strip() if isinstance(given, str) else given
        if name is None or value is None or value == "":
            continue
        if name == key or name not in found:
            found[name] = value
    return found


def read_text(name: str, value: object) -> str:
    """Stripped text that PostgreSQL can store, with numbers converted to text. Raises RefusedError."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            text = str(value)
        except ValueError:  # Python refuses to write out an int of more than 4,300 digits
            raise RefusedError(f"{name} is a number with too many digits") from None
    else:
        raise RefusedError(f"{name} is {_kind(value)}, not text")
    if "\0" in text:
        raise RefusedError(f"{name} contains a NUL character, which PostgreSQL cannot store")
    limit = _LIMIT_BYTES.get(name)
    if text.isascii():
        size_bytes = len(text)
    else:
        try:
            size_bytes = len(text.encode("utf-8"))
        except UnicodeEncodeError:
            raise RefusedError(f"{name} contains bytes that are not UTF-8, or half of a surrogate pair") from None
    if limit is not None and size_bytes > limit:
        raise RefusedError(f"{name} has {size_bytes:,} bytes, but at most {limit:,} can be indexed")
    return text


def _read_date(name: str, value: object) -> str:
    found = iso_date(value)
    if found is None:
        raise RefusedError(f"{name} is not a date in a known format: {_shown(value)}")
    return found


def _read_moment(name: str, value: object) -> str:
    """A moment as ISO-8601 in UTC; a date is its first moment, and a time without a zone is UTC."""
    if isinstance(value, str) and value.strip().lower() == NEVER:
        return NEVER
    with suppress(ValueError, OverflowError):
        found = datetime.fromisoformat(iso_date(value) or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    raise RefusedError(f"{name} is neither a date in a known format nor {NEVER!r}: {_shown(value)}")


def _read_bool(name: str, value: object) -> bool:
    word = str(value).lower() if isinstance(value, str | bool | float) or value in (0, 1) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise RefusedError(f"{name} is neither true nor false: {_shown(value)}")


def _read_score(name: str, value: object) -> float:
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if math.isfinite(number):
        return number
    raise RefusedError(f"{name} is not a finite number: {_shown(value)}")


def _read_tags(name: str, value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = _tags_of_text(value)
    if not isinstance(value, list | tuple):
        raise RefusedError(f"{name} is {_kind(value)}, not a list of texts")
    tags = (read_text(name, tag) for tag in value if tag is not None)
    return tuple(dict.fromkeys(tag for tag in tags if tag)) or None


def _tags_of_text(text: str) -> list[object]:
    if text.startswith("[") and text.endswith("]"):
        try:
            listed: list[object] = json.loads(text)
            return listed
        except (ValueError, RecursionError):  # brackets around words: what str() makes of a list in Python
            return [part.strip(" '\"") for part in text[1:-1].split(",")]
    return list(text.split(","))


READERS: Final[dict[str, Callable[[str, object], object]]] = dict.fromkeys(ARTICLE_FIELDS, read_text) | {
    "publication_date": _read_date,
    "submission_date": _read_date,
    "expires_at": _read_moment,
    "analyzed": _read_bool,
    "quality_score": _read_score,
    "relevance_score": _read_score,
    "tags": _read_tags,
}


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def _shown(value: object) -> str:
    """The value as quoted in a reason: one line, escaped, short."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        return "a very long number"
    return text if len(text) <= 60 else f"{text[:60]}…"
