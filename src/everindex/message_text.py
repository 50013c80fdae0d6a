"""Commands inside messages: between two spaces where a person copies them from a terminal, between backticks in JSON.

A message is written once, for the terminal: `run  everindex heal : it builds what is missing.` A page, which shows two
spaces as one, makes `<code>` of the backticks.
"""

from __future__ import annotations

import re

# It ends at two spaces, at a space before punctuation, or with the text.
_COMMAND = re.compile(r"(?<=\S)  (?=\S)([^`\n]+?)(?:(  )(?=\S)| (?=[.,;:)?!]+(?:\s|$))|(?=\.?$))")


def with_backticks(text: str) -> str:
    """The message with its commands between backticks, and no space before the punctuation that follows one."""
    if "  " not in text:
        return text
    return _COMMAND.sub(lambda found: f" `{found[1]}`{' ' if found[2] else ''}", text)
