"""JSON bodies of the API, read as their declared type.

Guarantees that what does not fit its type is refused with a sentence for each fault, and that a long body is read beside the
event loop. Whether the values go together is checked by what they become (`SearchRequest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everindex.web.http.inputs import require_type
from everindex.web.http.problems import validation_error
from everindex.web.site import site_of

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

JSON = "application/json"
#: A vector of 1,536 numbers has some 35,000 bytes; beyond this, reading is work for another thread.
SHORT_BODY_BYTES = 65_536
PAUSE_SECONDS = 0.005


async def read_json(request: Request, model: type[M]) -> M:
    """The body as `model`. Raises ContentTypeRefused, UsageError (bad-input), BodyTooLarge."""
    return await read_json_as(request, model, lambda read: read)


async def read_json_as(request: Request, model: type[M], make: Callable[[M], T]) -> T:
    """What `make` makes of the body as `model`, beside the event loop where the body is long. Raises as both do."""
    require_type(request, JSON)
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
