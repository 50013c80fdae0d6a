"""Responses of the protocol itself, to input that never became a request of the application; made once, as bytes.

They are problem+json for every client, close the connection, and are not logged.
"""

from __future__ import annotations

from http import HTTPStatus

from pydantic_core import to_json

from everindex.errors import EverindexError, HeadTooLarge, RequestMalformed, RequestTimedOut, ServerBusy
from everindex.web.http.envelope import SECURITY_HEADERS
from everindex.web.http.problems import as_problem, problem_headers

#: The size limit of a request without its body. A percent-encoded URL with 10,000 non-ASCII characters fits several
#: times.
MAX_HEAD_BYTES = 512 * 1024
#: How long a client may take to send the head of a request, and then its body of at most a megabyte.
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0


def early_answer(error: EverindexError) -> bytes:
    """The error as a complete HTTP/1.1 response."""
    body = to_json(as_problem(error))
    headers = {
        "content-type": "application/problem+json",
        "content-length": str(len(body)),
        "connection": "close",
        **problem_headers(error),
        **SECURITY_HEADERS,
    }
    lines = [
        f"HTTP/1.1 {error.http_status} {HTTPStatus(error.http_status).phrase}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


HEAD_TOO_LARGE = early_answer(
    HeadTooLarge(
        "the head of the request is too large.",
        why=f"its address and headers have more than {MAX_HEAD_BYTES} bytes.",
        next_step="send a long text or vector in the body of POST /api/search.",
    )
)
HEAD_TIMED_OUT = early_answer(
    RequestTimedOut(
        "the request was not received in time.",
        why=f"sending its head took longer than {HEAD_SECONDS:g} seconds.",
        next_step="send it again without pauses.",
    )
)
BODY_TIMED_OUT = early_answer(
    RequestTimedOut(
        "the request was not received in time.",
        why=f"sending its body took longer than {BODY_SECONDS:g} seconds.",
        next_step="send it again without pauses; a body may have at most a megabyte.",
    )
)
MALFORMED = early_answer(
    RequestMalformed(
        "this is not a valid HTTP/1.1 request.", why="its first line, a header or its length cannot be read.",
        next_step="use an HTTP/1.1 client; /docs describes what is accepted.",
    )
)  # fmt: skip
TOO_MANY_CONNECTIONS = early_answer(
    ServerBusy(
        "too many connections are open.", why="the limit EVERINDEX_MAX_CONNECTIONS is reached.",
        next_step="try again in a moment.",
    )
)  # fmt: skip
