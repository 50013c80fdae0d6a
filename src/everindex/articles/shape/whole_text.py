"""The declaration of whole texts: which rows have them, and where their passages and the records of the cuts are kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.articles.shape.spec import CollectionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTexts:
    """The whole texts of one collection."""

    passages: CollectionSpec
    """The passages, which are a collection of their own."""

    cuts: str
    """The table of schema everindex_meta that says how each text was cut."""

    owner: str
    """The column of both tables with the key, as text, of the row that the text belongs to."""

    column: str | None
    """The column of the row that is the text; None of the articles, whose bodies have a table of their own."""
