"""The errors of a filter: what is wrong, and where it stands; names in them are printable and short."""

from __future__ import annotations

from everindex.errors import FilterInvalid


def shown(name: str) -> str:
    """A name as messages and logs show it: on one line, of bounded length."""
    if name.isprintable() and len(name) <= 80:
        return name
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name[:80])


def wrong(where: str, what: str, why: str, next_step: str) -> FilterInvalid:
    """The error of one place in a filter, in its three lines."""
    return FilterInvalid(f"the filter is wrong at {where or 'its top'}: {what}.", why=why, next_step=next_step)
