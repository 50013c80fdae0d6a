"""How whole texts were cut into passages: of one text, and of all texts of a collection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everindex.units import count_text

#: The name of the collection of articles.
ARTICLES = "articles"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCut:
    """How the whole text of one row was cut."""

    passages: int
    characters: int
    tokens: int | None
    """Of the whole text; None where the model's tokenizer is elsewhere."""

    passage_tokens: int
    """The most that a passage has."""

    model: str
    """The model that it was cut for, and that made the vectors of its passages."""

    cut_at: str
    """When, as ISO-8601 text in UTC."""

    @property
    def sentence(self) -> str:
        tokens = "" if self.tokens is None else f" and {self.tokens:,} tokens"
        if not self.passages:
            return f"{self.characters:,} characters{tokens}: the vector of the row covers all of it"
        return (
            f"{self.characters:,} characters{tokens}, cut into {count_text(self.passages, 'passage')} of at most "
            f"{self.passage_tokens} tokens for {self.model}, {self.cut_at}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageCounts:
    """The whole texts of a database and their passages."""

    texts: int
    """Rows that have a whole text."""

    cut: int
    passages: int
    characters: int
    """Of the texts that were cut."""

    models: tuple[str, ...]
    """The models that texts were cut for."""

    collection: str = ARTICLES
    orphans: int
    """Cut texts whose row or text is gone."""

    @property
    def due(self) -> int:
        """Texts that were never cut; those that have changed since are found by `everindex embed`, which reads them."""
        return max(self.texts - (self.cut - self.orphans), 0)

    @property
    def sentence(self) -> str:
        cut, passages = self.cut - self.orphans, count_text(self.passages, "passage")
        parts = [f"{cut:,} of {count_text(self.texts, 'text')} cut into {passages}"]
        parts += [f"for {', '.join(self.models)}"] if self.models else []
        command = "everindex embed" + ("" if self.collection == ARTICLES else f" --collection {self.collection}")
        due = f"; {self.due:,} due: run  {command}" if self.due else ""
        gone = "articles" if self.collection == ARTICLES else "rows"
        orphans = f"; {self.orphans:,} of {gone} that are gone: run  {command}" if self.orphans else ""
        return f"{' '.join(parts)}{due}{orphans}"

    def as_dict(self) -> dict[str, Any]:
        """As `--json` gives it."""
        return {
            "texts": self.texts, "cut": self.cut, "passages": self.passages, "characters": self.characters,
            "models": [*self.models], "orphans": self.orphans, "due": self.due,
        }  # fmt: skip
