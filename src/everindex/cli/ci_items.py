"""What a command has checked, and what is wrong with it, independent of the format in which that is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from everindex.message_text import with_backticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with an item."""

    rule: str
    level: Literal["error", "warning", "note"]
    message: str
    next_step: str | None = None

    @property
    def text(self) -> str:
        """Message and next step, with commands in backticks."""
        return with_backticks(self.message if self.next_step is None else f"{self.message}\nnext: {self.next_step}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedItem:
    """One thing that was checked: a statement, a proof, an index, a migration."""

    name: str
    problems: tuple[Problem, ...] = ()
    file: str | None = None
    line: int | None = None
    is_skipped: bool = False
    """It could not be checked, and that is no problem of its own."""

    @property
    def fails(self) -> bool:
        return any(problem.level != "note" for problem in self.problems)
