"""Commands inside messages: set off by two spaces for people who copy them from a terminal, by backticks in JSON.

A message is written once, for the terminal: `run  everindex heal : it builds what is missing.` A web page, which shows two
spaces as one, turns the backticks into `<code>`.
"""

from __future__ import annotations

import re

# A command ends at two spaces, at a space before punctuation, or at the end of the text.
_COMMAND = re.compile(r"(?<=\S)  (?=\S)([^`\n]+?)(?:(  )(?=\S)| (?=[.,;:)?!]+(?:\s|$))|(?=\.?$))")


def with_backticks(text: str) -> str:
    """The message with its commands between backticks, and no space before the punctuation that follows one."""
    if "  " not in text:
        return text
    return _COMMAND.sub(lambda found: f" `{found[1]}`{' ' if found[2] else ''}", text)
