"""Host names and addresses in the form used to compare them: lower case, ASCII, without a final dot.

Uses no network: a name is never resolved. Text that is neither a name nor an address has no such form.
"""

from __future__ import annotations

import ipaddress
import re

#: A name as in DNS and container networks; underscores are not allowed in host names, but Compose creates names with them.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
#: Names whose last label is a number are addresses to a browser, and only in their usual form (WHATWG URL, "ends in a number").
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `text` (without brackets or zone) denotes; for ::ffff:127.0.0.1 the IPv4 address inside it."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return None if found.scope_id is not None else found.ipv4_mapped or found
    return found


def is_loopback(text: str) -> bool:
    """Whether `text` is an address that only this machine reaches."""
    found = address_of(text.partition("%")[0])
    return found is not None and found.is_loopback


def name_of(text: str) -> str | None:
    """`text` as a host name or address: IPv6 without brackets, international names as browsers send them (xn--)."""
    plain = text.strip().lower().removesuffix(".")
    if not plain.isascii():
        import idna  # imported here because such names are rare and its tables take 10 ms to load

        try:
            plain = idna.encode(plain, uts46=True).decode("ascii")
        except idna.IDNAError:
            return None
    bracketed = plain.startswith("[") and plain.endswith("]")
    address = address_of(plain[1:-1] if bracketed else plain)
    if address is not None:
        return None if bracketed and ":" not in plain else str(address)
    if len(plain) > 253 or not _NAME.fullmatch(plain) or _ENDS_IN_NUMBER.fullmatch(plain):
        return None
    return plain


def names_of(listed: str) -> tuple[str, ...]:
    """Parses a comma-separated list of names, addresses, `*.name` for every name below one, and `*`. Raises ValueError."""
    found = []
    for part in filter(None, (part.strip() for part in listed.split(","))):
        below = part.removeprefix("*.")
        name = "" if part == "*" else name_of(below)
        if name is None or (below != part and address_of(name) is not None):
            raise ValueError(
                "it takes host names and addresses, separated by commas, without http:// and without a port"
            )
        found.append("*" if part == "*" else f"*.{name}" if below != part else name)
    return tuple(found)
