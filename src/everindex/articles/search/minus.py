"""What does a query leave out? `-word` and `-"some words"`, as websearch_to_tsquery reads them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A minus counts where a word begins: `e-mail` has none, ` - ` has nothing to leave out.
_MINUS = re.compile(r'(?:(?<=\s)|^)-(?P<term>"[^"]*"?|[^\s"-]\S*)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query in two parts."""

    wanted: str
    """The text without what it leaves out; may be empty."""

    left_out: str | None
    """A query for everything that is left out; None where nothing is."""


def split(text: str) -> Asked:
    """Takes the text apart. An embedding model knows no minus: `python -windows` means Windows as much as Python to it."""
    terms = [match["term"] for match in _MINUS.finditer(text)]
    terms = [term for term in terms if re.search(r"\w", term)]
    if not terms:
        return Asked(wanted=text, left_out=None)
    return Asked(wanted=" ".join(_MINUS.sub(" ", text).split()), left_out=" or ".join(terms))
