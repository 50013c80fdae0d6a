"""The id of the request that is being answered, for log lines and error documents deep below the web application.

A context variable: it follows a coroutine by itself, and into a thread where the context is copied. None outside of a request.
"""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("everindex_request_id", default=None)
