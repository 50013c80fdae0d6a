"""The credentials in a request: a bearer token, a token as the password of Basic, or the cookie of a session."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.cookies import CookieError, SimpleCookie
from typing import Literal

from everindex.access.credentials import bearer_of
from everindex.host_names import address_of

#: The cookie of a session where it is `Secure`: browsers accept this prefix only from a secure page of this very host.
SECURE_COOKIE = "__Host-everindex_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One secret, and how it was sent."""

    secret: str
    by: Literal["bearer", "basic", "cookie"]

    @property
    def kind(self) -> Literal["token", "session"]:
        """What it has to be."""
        return "session" if self.by == "cookie" else "token"


def has_bearer(headers: Mapping[str, str]) -> bool:
    """Whether a program sent this request with a token: no page of another site can set this header without our consent."""
    return bool(bearer_of(headers.get("authorization", "")))


def given_in(headers: Mapping[str, str], *, takes_basic: bool) -> Given | None:
    """What identifies the sender: a bearer token, else a cookie, else with `takes_basic` the password of HTTP Basic. None for a
    request without any.

    Other authentication is not ours: a proxy that asks for a password itself passes it on."""
    authorization = headers.get("authorization")
    token = None if authorization is None else bearer_of(authorization)
    if token is not None:
        return Given(secret=token, by="bearer")
    cookie = headers.get("cookie")
    if cookie is not None and "everindex_session" in cookie:
        secret = _cookie(cookie, cookie_name(headers.get("host", "")))
        if secret is not None:
            return Given(secret=secret, by="cookie")
    if takes_basic and authorization is not None:
        scheme, _, value = authorization.strip().partition(" ")
        if scheme.lower() == "basic":
            return Given(secret=_password(value), by="basic")
    return None


def _password(encoded: str) -> str:
    """The password of HTTP Basic (RFC 7617); empty where it cannot be read."""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _cookie(text: str, name: str) -> str | None:
    for part in text.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


@lru_cache(maxsize=256)
def cookie_name(host: str) -> str:
    """The name of the session's cookie for a request with this Host.

    On this machine it names the port: cookies do not tell ports apart, and two servers would sign each other out."""
    return f"everindex_session_{port_of(host)}" if is_this_machine(host) else SECURE_COOKIE


def port_of(host: str) -> str:
    """The port in a Host header; `80` where it has none."""
    port = host.rpartition(":")[2] if not host.endswith("]") else ""
    return port if port.isascii() and port.isdigit() else "80"


def is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine by a loopback name: no network is crossed, so plain HTTP is safe."""
    name = host.rpartition(":")[0] if _has_port(host) else host
    name = name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    address = address_of(name)
    return address.is_loopback if address is not None else name == "localhost" or name.endswith(".localhost")


def _has_port(host: str) -> bool:
    head, _, tail = host.rpartition(":")
    return bool(head) and tail.isascii() and tail.isdigit() and not (":" in head and not head.endswith("]"))


def set_cookie(host: str, secret: str, *, seconds: int) -> str:
    """The Set-Cookie of a session; with no seconds, one that removes it.

    SameSite=Lax: a link from elsewhere opens a page signed in; requests that change something are checked by their origin."""
    cookie: SimpleCookie = SimpleCookie()
    name = cookie_name(host)
    try:
        cookie[name] = secret
    except CookieError:  # a host of strange form
        return ""
    morsel = cookie[name]
    morsel["path"], morsel["httponly"], morsel["samesite"], morsel["max-age"] = "/", True, "Lax", seconds
    if name == SECURE_COOKIE:
        morsel["secure"] = True
    return morsel.OutputString()
