"""The visible text of a piece of HTML, in one pass over the tags and linear time for any input.

html.parser of Python 3.11.7 is not used because it is quadratic: 60 kB of `<a ` took 37 s.
"""

from __future__ import annotations

import html
import re

# Every branch of a tag stops at the next "<", so backtracking never reads further back than one tag.
_TAG = re.compile(
    r"""<!--
      | <[!?][^<>]*+>
      | <(/?)([a-zA-Z][a-zA-Z0-9:-]*+)(?>[^<>"']++|"[^"<]*+"|'[^'<]*+')*+>
      | </?[a-zA-Z][^<>]*+>
    """,
    re.VERBOSE,
)
#: html.unescape passes the digits to int(), which refuses more than 4,300 of them.
_ENDLESS_REFERENCE = re.compile(r"&#(?:x[0-9a-f]{9,}|[0-9]{9,});?", re.IGNORECASE)
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "footer",
    "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "ol", "p", "pre", "section", "table", "tr", "ul",
})
# fmt: on
_SILENT = frozenset({"script", "style"})
_HTML_HINT = re.compile(r"<(?:br|img|p|a|b|i|div|span|em|strong|ul|li)\b[^<>]*>|</[a-z]+>", re.IGNORECASE)


def looks_like_html(text: str) -> bool:
    """True when the text contains a common tag, as RSS descriptions do without declaring HTML."""
    return _HTML_HINT.search(text) is not None


def html_text(markup: str) -> str:
    """The visible text: blocks on separate lines, other white space as one space, references decoded."""
    pieces: list[str] = []
    silent: str | None = None
    position = 0
    while tag := _TAG.search(markup, position):
        if silent is None:
            pieces.append(_flat(markup[position : tag.start()]))
        position = tag.end()
        if tag[0] == "<!--":
            end = markup.find("-->", position)
            position = len(markup) if end < 0 else end + 3
            continue
        name = (tag[2] or "").lower()
        if name in _SILENT:
            silent = None if tag[1] else silent or name
        elif name in _BLOCKS:
            pieces.append("\n")
    if silent is None:
        pieces.append(_flat(markup[position:]))
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _flat(text: str) -> str:
    return html.unescape(_ENDLESS_REFERENCE.sub("\ufffd", text)).replace("\n", " ")
