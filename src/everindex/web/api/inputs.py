"""JSON bodies of the API, read as their declared type.

Guarantees that a body that does not fit its type is refused with a sentence per fault, and that a long body is read
outside the event loop. Whether the values are compatible is checked by `SearchRequest`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from everindex.web.http.inputs import note_subject, require_type
from everindex.web.http.problems import validation_error
from everindex.web.site import site_of

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

JSON = "application/json"
#: A vector of 1,536 numbers has some 35,000 bytes; larger bodies are read in another thread.
SHORT_BODY_BYTES = 65_536
PAUSE_SECONDS = 0.005


async def read_json(request: Request, model: type[M]) -> M:
    """The body as `model`. Raises ContentTypeRefused, UsageError (bad-input), BodyTooLarge."""
    read = await read_json_as(request, model, lambda read: read)
    note_subject(request, vars(read))
    return read


async def read_json_as(request: Request, model: type[M], make: Callable[[M], T]) -> T:
    """The result of `make` for the body as `model`, computed outside the event loop for a long body. Raises what both raise."""
    require_type(request, JSON)
    body = await request.body()
    if len(body) > SHORT_BODY_BYTES:
        return await site_of(request).compute(lambda: _made_of_long(body, model, make), characters=len(body))
    return make(_read(body, model))


def _made_of_long(body: bytes, model: type[M], make: Callable[[M], T]) -> T:
    """Reads a long body: a megabyte blocks the interpreter for 20 ms, so the event loop gets its turn afterwards."""
    try:
        return make(_read(body, model))
    finally:
        time.sleep(PAUSE_SECONDS)


def _read(body: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise validation_error(exc.errors(include_input=False, include_url=False)) from None
