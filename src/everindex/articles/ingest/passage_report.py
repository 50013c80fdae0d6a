"""The report of what a run did with whole texts and their passages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, kw_only=True)
class PassageReport:
    """What a run did with whole texts."""

    texts: int = 0
    """Texts that were cut; those that title and summary repeat are not."""

    passages: int = 0
    """Passages that these have."""

    embedded: int = 0
    """Passages that were new or changed, or of another model, and got a vector."""

    removed: int = 0
    """Passages of older texts that were removed."""

    without_vector: int = 0
    failure_reason: str | None = None
    """The reason of the first passage that got no vector, or why no text was cut."""

    next_step: str | None = None
    """What must be done before texts can be cut; None where nothing is needed."""

    def __add__(self, other: PassageReport) -> PassageReport:
        return PassageReport(
            texts=self.texts + other.texts,
            passages=self.passages + other.passages,
            embedded=self.embedded + other.embedded,
            removed=self.removed + other.removed,
            without_vector=self.without_vector + other.without_vector,
            failure_reason=self.failure_reason or other.failure_reason,
            next_step=self.next_step or other.next_step,
        )

    @property
    def is_empty(self) -> bool:
        return self == PassageReport()

    def as_dict(self) -> dict[str, Any]:
        """As `--json` gives it."""
        return {
            "texts": self.texts, "passages": self.passages, "embedded": self.embedded, "removed": self.removed,
            "without_vector": self.without_vector, "failure_reason": self.failure_reason,
        }  # fmt: skip
