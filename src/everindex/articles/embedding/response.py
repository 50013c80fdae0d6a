"""Responses of an embedding endpoint as vectors; nothing in their bytes is trusted."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from everindex.units import count_text


class ResponseUnusableError(Exception):
    """The response as a whole cannot be matched with the texts; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The vectors of one response in the order of the texts: `(count, width)` float32, NaN where `failures` has a row."""

    vectors: npt.NDArray[np.float32]
    failures: dict[int, str]


def read_response(body: bytes, *, count: int, width: int) -> Received:
    """Reads a response of `POST /embeddings` for `count` texts. Whatever the bytes, raises only ResponseUnusableError.

    Only the shape is checked here (`width` numbers); `check_vectors` decides whether they are a usable vector. Source:
    OpenAI API reference, "The embedding object".
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ResponseUnusableError(f"the endpoint's answer is not JSON ({type(exc).__name__})") from exc
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ResponseUnusableError('the endpoint\'s answer has no list of embeddings under "data"')
    if len(items) != count:
        raise ResponseUnusableError(
            f"the endpoint answered {count_text(len(items), 'vector')} for {count_text(count, 'text')}"
        )
    vectors = np.full((count, width), np.nan, dtype=np.float32)
    failures: dict[int, str] = {}
    for row, item in zip(_rows(items), items, strict=True):
        found = _numbers(item.get("embedding"), width)
        if isinstance(found, str):
            failures[row] = found
        else:
            vectors[row] = found
    return Received(vectors=vectors, failures=failures)


def _rows(items: list[dict[str, Any]]) -> list[int]:
    """The text of each item by `index`, or by position where a server omits `index` in all of them."""
    if all("index" not in item for item in items):
        return list(range(len(items)))
    rows = [item.get("index") for item in items]
    numbers = [row for row in rows if isinstance(row, int) and not isinstance(row, bool)]
    if sorted(numbers) != list(range(len(items))):
        raise ResponseUnusableError("the endpoint's answer does not number the vectors from 0 with each number once")
    return numbers


def _numbers(value: object, width: int) -> npt.NDArray[np.float32] | str:
    """The `(width,)` float32 of a list of numbers or of base64 little-endian float32, or why it is neither."""
    try:
        if isinstance(value, str):
            array = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        elif isinstance(value, list):
            array = np.array(value)
        else:
            return "the endpoint's answer has no vector for the text"
    except (ValueError, OverflowError):
        return "the endpoint's answer has no list of numbers for the text"
    if array.ndim != 1 or (array.dtype.kind not in "fiu" and array.size):
        return "the endpoint's answer has no list of numbers for the text"
    if array.size != width:
        return f"the model returned {array.size} dimensions, the column has {width}"
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
