"""How is a request read? JSON and form bodies by their declared type, dates of a form, all without ever failing unsaid."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everindex.articles.model import Filters
from everindex.articles.search.filters import day_after, first_day
from everindex.errors import ContentTypeRefused, QueryInvalid, UsageError
from everindex.web.http.problems import validation_error
from everindex.web.site import site_of

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

JSON = "application/json"
#: A vector of 1,536 numbers has some 35,000 bytes; beyond this, reading is work for another thread.
SHORT_BODY_BYTES = 65_536
PAUSE_SECONDS = 0.005
FORM = "application/x-www-form-urlencoded"


def read_query(request: Request, model: type[M]) -> M:
    """The query of the address as `model`; of a name that is repeated, the last value. Raises UsageError (bad-input)."""
    try:
        return model.model_validate(_fields(request.scope["query_string"], of="query of the address"))
    except ValidationError as exc:
        raise validation_error(exc.errors(include_input=False, include_url=False)) from None


async def read_json(request: Request, model: type[M]) -> M:
    """The body as `model`. Raises ContentTypeRefused, UsageError (bad-input), BodyTooLarge."""
    return await read_json_as(request, model, lambda read: read)


async def read_json_as(request: Request, model: type[M], make: Callable[[M], T]) -> T:
    """What `make` makes of the body as `model`, beside the event loop where the body is long. Raises as both do."""
    _require_type(request, JSON)
    body = await request.body()
    if len(body) > SHORT_BODY_BYTES:
        return await site_of(request).compute(lambda: _made_of_long(body, model, make), characters=len(body))
    return make(_read(body, model))


def _made_of_long(body: bytes, model: type[M], make: Callable[[M], T]) -> T:
    """A megabyte takes 20 ms in which nothing else can run; after that the event loop has its turn, all of it."""
    try:
        return make(_read(body, model))
    finally:
        time.sleep(PAUSE_SECONDS)


def _read(body: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise validation_error(exc.errors(include_input=False, include_url=False)) from None


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last value of each; bytes that are no UTF-8 become U+FFFD."""
    _require_type(request, FORM)
    body = await request.body()
    return _fields(body, of="form")


def _fields(encoded: bytes, *, of: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            encoded.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=100, errors="replace"
        )
    except ValueError:
        raise UsageError(
            f"the {of} cannot be read.", why="it has more than 100 fields.", next_step="send those that are described."
        ) from None
    return dict(pairs)


def read_filters(
    *, category: str | None, topic: str | None, source: str | None, since: str | None, until: str | None
) -> Filters:
    """Filters of a request; an empty value filters nothing."""
    return Filters(
        category=category or None,
        topic=topic or None,
        news_source=source or None,
        since=since or None,
        until=until or None,
    )


def shown_date(text: str | None, *, is_last: bool) -> tuple[str, bool]:
    """A date for an input field, and whether the field can be of type date: `2023-02` as its first or last day. What is no
    date is shown as it was written."""
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
    """A whole number of a form or address. Raises QueryInvalid; an empty field is the default."""
    if text is None or not text.strip():
        return default
    try:
        return int(text.strip()) if len(text) <= 20 else _refuse()
    except ValueError:
        raise QueryInvalid(
            f"{name} is not a whole number: {text[:40]!r}.",
            why=f"{name} counts articles.",
            next_step="write it in digits.",
        ) from None


def _refuse() -> int:
    raise ValueError


def _require_type(request: Request, wanted: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise ContentTypeRefused(
            f"the body of this request must be {wanted}.", why=f"its Content-Type is {given[:80] or 'missing'}.",
            next_step=f"send it with  Content-Type: {wanted}.",
        )  # fmt: skip
