"""Fields of forms and URLs as text, numbers, dates and filters; an unreadable one raises an error that says why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everindex.articles.model import Filters
from everindex.articles.search.filters import NO_FILTERS, AnyFilters, both
from everindex.articles.search.filters.conditions import parse_json
from everindex.articles.search.filters.days import day_after, first_day
from everindex.errors import ContentTypeRefused, QueryInvalid, UsageError
from everindex.web.http.gate import SUBJECT
from everindex.web.http.problems import validation_error

M = TypeVar("M", bound=BaseModel)

FORM = "application/x-www-form-urlencoded"


def read_query(request: Request, model: type[M]) -> M:
    """The URL parameters as `model`; the last value of a repeated name. Raises UsageError (bad-input)."""
    try:
        return model.model_validate(_fields(request.scope["query_string"], of="query of the address"))
    except ValidationError as exc:
        raise validation_error(exc.errors(include_input=False, include_url=False)) from None


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last value of each; bytes that are not UTF-8 become U+FFFD."""
    require_type(request, FORM)
    body = await request.body()
    fields = _fields(body, of="form")
    note_subject(request, fields)
    return fields


#: Fields that name what a request changes; an audit line shows them, and no others.
NAMING = ("name", "incident_name", "topic", "status", "article", "saved_search", "uris", "expires_at")


def note_subject(request: Request, fields: Mapping[str, Any]) -> None:
    """Leaves the names of what a request changes for its audit line (web/http/gate.py)."""
    named = {name: fields[name] for name in NAMING if fields.get(name)}
    if named:
        request.scope[SUBJECT] = ", ".join(f"{name}={value}" for name, value in named.items())


def _fields(encoded: bytes, *, of: str) -> dict[str, str]:
    """The fields of a form or of a query string, the last value of each. Raises UsageError for more than 100."""
    try:
        pairs = parse_qsl(
            encoded.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100, errors="replace"
        )
    except ValueError:
        raise UsageError(
            f"the {of} cannot be read.", why="it has more than 100 fields.", next_step="send only the documented ones."
        ) from None
    return dict(pairs)


def read_filters(
    *,
    category: str | None,
    topic: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    more: str | Mapping[str, Any] | None = None,
) -> AnyFilters:
    """Filters of a request; an empty value filters nothing. `more`: of the filter language, as JSON or as read from it.
    Raises FilterInvalid."""
    if not (category or topic or source or since or until or more):
        return NO_FILTERS
    named = Filters(
        category=category or None,
        topic=topic or None,
        news_source=source or None,
        since=since or None,
        until=until or None,
    )
    return both(named, (parse_json(more) if more.strip() else None) if isinstance(more, str) else more)


def read_where(given: str | Mapping[str, Any] | None) -> AnyFilters:
    """A condition of the filter language alone, as JSON or as read from it. Raises FilterInvalid."""
    return read_filters(category=None, topic=None, source=None, since=None, until=None, more=given)


def as_filter(value: str | None) -> str | None:
    """A value to filter by; an empty one sets no filter. NUL cannot be sent to PostgreSQL, and its replacement matches
    nothing."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value else None


def shown_date(text: str | None, *, is_last: bool) -> tuple[str, bool]:
    """A date for an input field, and whether the field can have type date: `2023-02` becomes its first or last day.
    Anything that is not a date is shown unchanged."""
    if not text:
        return "", True
    try:
        if not is_last:
            return first_day(text, name="since").isoformat(), True
        after = day_after(text, name="until")
        return ((after - dt.timedelta(days=1)).isoformat(), True) if after else (text, False)
    except QueryInvalid:
        return text, False


def read_number(text: str | None, *, name: str, default: int) -> int:
    """A whole number in a form or URL; an empty field is the default. Raises QueryInvalid."""
    if text is None or not text.strip():
        return default
    try:
        return int(text.strip()) if len(text) <= 20 else _refuse()
    except ValueError:
        raise QueryInvalid(
            f"{name} is not a whole number: {text[:40]!r}.",
            why=f"{name} is a number of articles.",
            next_step="write it in digits.",
        ) from None


def _refuse() -> int:
    raise ValueError


def require_type(request: Request, wanted: str) -> None:
    """Raises ContentTypeRefused for a body of another type."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise ContentTypeRefused(
            f"the body of this request must be {wanted}.", why=f"its Content-Type is {given[:80] or 'missing'}.",
            next_step=f"send it with  Content-Type: {wanted}.",
        )  # fmt: skip
