"""The data of a page at the address of the page: a GET that accepts JSON and no HTML is answered by the API.

Guarantees that such a request is the same as one to the API's own address: the same scopes, limits, answers and errors. A
browser, which always accepts HTML, never gets it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl, urlencode

from starlette.types import Message, Scope, Send

#: Page → address of its data. The names in braces are segments of the path.
PAGES: Mapping[str, str] = MappingProxyType(
    {
        "/": "/api/search",
        "/article": "/api/article",
        "/similar": "/api/similar",
        "/saved": "/api/saved",
        "/incidents": "/api/incidents",
        "/incident": "/api/incident",
        "/index": "/api/index",
        "/collections": "/api/collections",
        "/collections/{name}": "/api/collections/{name}/search",
        "/collections/{name}/row": "/api/collections/{name}/row",
        "/collections/{name}/index": "/api/collections/{name}/index",
        "/docs": "/openapi.json",
    }
)
#: The start page without a query shows the values to filter by.
START = "/api/facets"
_PATTERNS = tuple(
    (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", page) + r"\Z"), data) for page, data in PAGES.items()
)
_GROUPING = frozenset({"/", "/similar"})


def as_data(scope: Scope) -> Scope | None:
    """The scope of the request to the API that has the data of the requested page; None if the page itself is wanted."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return None
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    if b"application/json" not in accept or b"text/html" in accept:
        return None
    for pattern, target in _PATTERNS:
        found = pattern.match(scope["path"])
        if found is not None:
            query = _query(scope)
            path = START if scope["path"] == "/" and not query else target.format(**found.groupdict())
            return {**scope, "path": path, "raw_path": path.encode(), "query_string": _encoded(scope, query)}
    return None


def varying(send: Send) -> Send:
    """The same `send`, which tells caches that the answer depends on Accept."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"vary", b"Accept")]}
        await send(message)

    return sent


def _query(scope: Scope) -> list[tuple[str, str]]:
    """The parameters that have a value: an empty field of a form says nothing."""
    given = parse_qsl(scope["query_string"].decode("utf-8", "replace"), errors="replace")
    return [(name, value) for name, value in given if value]


def _encoded(scope: Scope, query: list[tuple[str, str]]) -> bytes:
    """The parameters under the names of the API: pages group near-duplicates unless `group=false`."""
    is_grouped = scope["path"] in _GROUPING or re.fullmatch(r"/collections/[^/]+", scope["path"])
    if not is_grouped or (scope["path"] == "/" and not query):
        return urlencode(query).encode()
    grouping = "false" if ("group", "false") in query else "true"
    others = [(name, value) for name, value in query if name != "group"]
    return urlencode([*others, ("group_duplicates", grouping)]).encode()
