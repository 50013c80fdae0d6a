"""Who a page is rendered for: templates show only what this person may do. The gate sets it for the task of the request."""

from __future__ import annotations

from contextvars import ContextVar

from everindex.access.scopes import LOCAL, Principal

VIEWER: ContextVar[Principal] = ContextVar("viewer", default=LOCAL)
