"""How many expensive requests a client may send, counted in the memory of this process by the minute.

Fixed windows: a client may send twice as many around the end of a minute, and what is counted is forgotten by itself. With
several processes each counts for itself.
"""

from __future__ import annotations

import ipaddress
import math
import time
from functools import cached_property
from typing import TYPE_CHECKING

from everindex.errors import TooManyRequests

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import FixedWindowRateLimiter

#: Attempts to sign in per minute: from one address, and in five minutes with one name from anywhere.
SIGN_INS_OF_ADDRESS = 10
SIGN_INS_OF_NAME = 20
#: Secrets that are not valid, per minute and address: more are refused without a query.
WRONG_SECRETS = 30


class RequestLimits:
    """The counts of one server."""

    def __init__(self, *, per_minute: int) -> None:
        """`per_minute` expensive requests of each kind; 0 for any number."""
        self._per_minute = per_minute

    @cached_property
    def _limiter(self) -> FixedWindowRateLimiter:
        from limits.storage import MemoryStorage  # 0.1 s, and most servers never count anything
        from limits.strategies import FixedWindowRateLimiter

        return FixedWindowRateLimiter(MemoryStorage())

    def count_expensive(self, kind: str, client: str) -> None:
        """Counts one request. Raises TooManyRequests."""
        if self._per_minute:
            self._count(_per(self._per_minute, minutes=1), kind, client, what=f"requests of this kind ({kind})")

    def count_sign_in(self, name: str, address: str) -> None:
        """Counts one attempt. Raises TooManyRequests."""
        self._count(_per(SIGN_INS_OF_ADDRESS, minutes=1), "sign-in", address, what="attempts to sign in")
        self._count(_per(SIGN_INS_OF_NAME, minutes=5), "sign-in-as", name[:200], what="attempts to sign in")

    def count_wrong_secret(self, address: str) -> None:
        """Counts a token or session that is not valid."""
        self._limiter.hit(_per(WRONG_SECRETS, minutes=1), "wrong-secret", address)

    def require_few_wrong_secrets(self, address: str) -> None:
        """Raises TooManyRequests."""
        limit = _per(WRONG_SECRETS, minutes=1)
        if not self._limiter.test(limit, "wrong-secret", address):
            self._refuse(limit, "wrong-secret", address, what="tokens that are not valid")

    def _count(self, limit: RateLimitItem, kind: str, client: str, *, what: str) -> None:
        if not self._limiter.hit(limit, kind, client):
            self._refuse(limit, kind, client, what=what)

    def _refuse(self, limit: RateLimitItem, kind: str, client: str, *, what: str) -> None:
        ends_at, _ = self._limiter.get_window_stats(limit, kind, client)
        seconds = max(1, math.ceil(ends_at - time.time()))
        minutes = limit.multiples
        span = "a minute" if minutes == 1 else f"{minutes} minutes"
        raise TooManyRequests(
            f"too many {what}.",
            why=f"one client may send {limit.amount} in {span}.",
            next_step=f"try again in {seconds} seconds.",
            retry_after_seconds=seconds,
        )


def _per(amount: int, *, minutes: int) -> RateLimitItem:
    from limits import RateLimitItemPerMinute

    return RateLimitItemPerMinute(amount, minutes)


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which is one subscriber."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return address
