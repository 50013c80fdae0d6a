"""The forms in which a program may join title and summary into one text for embedding; the first is everindex's own.

The vector does not reveal which form was used, so `declaration` tries each. Differences in white space and letter case
that a model ignores are not separate forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from everindex.articles.model import Article

#: (title, summary), either may be empty → the embedded text; empty where this form gives none.
TextForm = Callable[[str, str], str]

OWN_FORM = "title and summary"


def _own(title: str, summary: str) -> str:
    return Article(uri="", title=title, summary=summary).text_to_embed


def _joined(between: str) -> TextForm:
    return lambda title, summary: between.join(part for part in (title.strip(), summary.strip()) if part)


#: Display name → form.
TEXT_FORMS: Mapping[str, TextForm] = MappingProxyType(
    {
        OWN_FORM: _own,
        "title alone": lambda title, summary: title.strip(),
        "summary alone": lambda title, summary: summary.strip(),
        "title, a space, summary": _joined(" "),
        "title, a line, summary": _joined("\n"),
        "title, an empty line, summary": _joined("\n\n"),
        "title, a full stop, summary": _joined(". "),
        "title, a colon, summary": _joined(": "),
        "title, a dash, summary": _joined(" - "),
        "summary, an empty line, title": lambda title, summary: _joined("\n\n")(summary, title),
    }
)


def text_of(form: str, title: str | None, summary: str | None) -> str:
    """The text of an article in that form; in everindex's own form where that name is no longer known."""
    return TEXT_FORMS.get(form, _own)(title or "", summary or "")
