"""The `--declared` of this call, repeated in recommended commands, which would apply to other indexes without it."""

from __future__ import annotations

import re
import shlex

#: The commands that take --declared.
_COMMANDS = "status|plan|deploy|heal|rollback|keep|verify|measure|tune|warm|doctor"
_given: list[str] = []


def remember(declared: str | None) -> None:
    """Stores the value of the option; None where it was not given (a setting also applies to the next command)."""
    _given[:] = [] if declared is None else [declared]


def as_advised(text: str) -> str:
    """The text, with the option added to each everindex command in it that needs it."""
    if not _given:
        return text
    option = f" --declared {shlex.quote(_given[0])}"
    return re.sub(rf"\beverindex ({_COMMANDS})\b(?! --declared)", lambda found: found[0] + option, text)
