"""Errors over HTTP: as problem+json (RFC 9457), or as a page for browsers; never with a stack trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from everindex.errors import (
    BodyTooLarge,
    EverindexError,
    InternalError,
    MethodRefused,
    PageNotFound,
    ScopeMissing,
    SignInNeeded,
    TooManyRequests,
    UsageError,
)
from everindex.pg.sqlstate import statement_error
from everindex.request_context import REQUEST_ID

#: Retry-After of a 503 response, in seconds.
RETRY_AFTER_SECONDS = 5


def internal_error(request_id: str) -> InternalError:
    return InternalError(
        "internal error in everindex.",
        why=f"the request is not the cause; the log has the details under request id {request_id}.",
        next_step="try again; if it happens again, report it with that id.",
    )


def as_problem(error: EverindexError) -> dict[str, Any]:
    """The members of the problem document."""
    lines = error.as_dict()
    request_id = REQUEST_ID.get()
    return {
        "type": f"/problems/{error.slug}", "title": lines["what"], "status": error.http_status, "detail": lines["why"],
        "next": lines["next"], **({} if request_id is None else {"request_id": request_id}),
    }  # fmt: skip


def problem_headers(error: EverindexError) -> dict[str, str]:
    match error:
        case SignInNeeded() | ScopeMissing() if error.challenges:
            return {"www-authenticate": ", ".join(error.challenges)}
        case TooManyRequests():
            return {"retry-after": str(error.retry_after_seconds)}
    if error.http_status == 503:
        return {"retry-after": str(RETRY_AFTER_SECONDS)}
    return {"connection": "close"} if isinstance(error, BodyTooLarge) else {}  # the rest of the body is not waited for


def problem_response(error: EverindexError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as `application/problem+json`."""
    return Response(
        to_json(as_problem(error)), status_code=error.http_status, media_type="application/problem+json",
        headers=problem_headers(error) | dict(headers or {}),
    )  # fmt: skip


def prefers_html(request: Request) -> bool:
    """Whether the client is a browser requesting a page; errors of the API and the probes are always JSON."""
    path = request.url.path
    return "text/html" in request.headers.get("accept", "") and not path.startswith("/api/")


def as_ours(exc: Exception, request_id: str) -> EverindexError:
    """Any exception as one of our errors; an unknown one becomes `internal` and reveals no internals."""
    match exc:
        case EverindexError():
            return exc
        case RequestValidationError():
            return validation_error(exc.errors())
        case HTTPException(status_code=404):
            return PageNotFound(
                "no page exists at this address.",
                why="the address is misspelled, or the page was removed.",
                next_step="go to the search page,  / .",
            )
        case HTTPException(status_code=405):
            allowed = (exc.headers or {}).get("Allow", "another method")
            return MethodRefused(
                "method not allowed for this address.", why=f"the address accepts {allowed}.",
                next_step="see /docs for the methods of each address.",
            )  # fmt: skip
        case psycopg.Error():
            return statement_error(exc, doing="handling the request")
        case _:
            return internal_error(request_id)


def validation_error(errors: Sequence[Any]) -> UsageError:
    """The faults found by FastAPI or pydantic, one sentence each."""
    faults = []
    for error in errors[:5]:
        place = ".".join(str(part) for part in error["loc"] if part not in ("query", "body"))
        faults.append(f"{place}: {error['msg']}" if place else str(error["msg"]))
    return UsageError(
        "the request is not valid.",
        why="; ".join(faults)[:1000] + ".",
        next_step="correct the request; /docs describes what is accepted.",
    )
