"""The check that one of our own pages sent a changing request, by headers that a browser sets and a page cannot forge."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def is_cross_site(method: str, headers: Mapping[str, str]) -> bool:
    """True for an unsafe request that a browser sent on behalf of another site. `headers` has lower-case names.

    Sec-Fetch-Site decides if present (in every browser since 2023); otherwise the host of Origin must equal Host. A
    program sends neither and acts for itself, so no user's session can be misused through it.
    """
    if method in SAFE_METHODS:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        parts = urlsplit(origin)
        host = parts.netloc.lower()
    except ValueError:
        return True
    return parts.scheme not in ("http", "https") or not host or host != headers.get("host", "").lower()
