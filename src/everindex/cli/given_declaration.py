"""The `--declared` of this call, repeated in the commands that are advised: without it they would be about other indexes."""

from __future__ import annotations

import re
import shlex

#: What takes --declared.
_COMMANDS = "status|plan|deploy|heal|rollback|keep|verify|measure|tune|warm|doctor"
_given: list[str] = []


def remember(declared: str | None) -> None:
    """What the option said; None where it was not given (a setting holds for the next command as well)."""
    _given[:] = [] if declared is None else [declared]


def as_advised(text: str) -> str:
    """The text, with the option after each command of everindex in it that needs it."""
    if not _given:
        return text
    option = f" --declared {shlex.quote(_given[0])}"
    return re.sub(rf"\beverindex ({_COMMANDS})\b(?! --declared)", lambda found: found[0] + option, text)
