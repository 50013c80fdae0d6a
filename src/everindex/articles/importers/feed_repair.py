"""The repair of broken feed XML where the intent is unambiguous, and its division into entries where it is not.

Every function takes time and memory proportional to its input, whatever the input is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html.entities import html5
from typing import Final
from xml.parsers import expat

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_MARK = re.compile(r"<!\[CDATA\[|<!--|&(?:#[0-9]{1,8};|#[xX][0-9a-fA-F]{1,7};|[A-Za-z][A-Za-z0-9]{1,31};)?")
_ENTRY_MARK = re.compile(r"<!\[CDATA\[|<!--|<(/?)((?:[A-Za-z_][\w.-]{0,40}:)?(?:item|entry))(?=[\s/>])")
_ENDS: Final = {"<![CDATA[": "]]>", "<!--": "-->"}
_OF_XML: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})


def repaired(text: str) -> tuple[str, int]:
    """The text with HTML's entities as characters, bare `&` escaped and control characters removed, and the number of these."""
    text, dropped = _CONTROL.subn("", text)
    pieces: list[str] = []
    position = 0
    while found := _MARK.search(text, position):
        mark = found[0]
        if mark in _ENDS:
            end = text.find(_ENDS[mark], found.end())
            if end < 0:
                break
            pieces.append(text[position:end])
            position = end
            continue
        pieces.append(text[position : found.start()])
        position = found.end()
        plain, lost = _reference(mark)
        dropped += lost
        pieces.append(plain)
    pieces.append(text[position:])
    return "".join(pieces), dropped


def _reference(mark: str) -> tuple[str, int]:
    """The replacement of a reference in well-formed XML, and whether it was a control character, which has none."""
    name = mark[1:-1]
    if name.startswith("#"):
        code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
        if code in (9, 10, 13):
            return mark.replace("X", "x"), 0
        if 0x80 <= code <= 0x9F:  # written by those who meant windows-1252, as HTML reads it
            return html.unescape(mark), 0
        if code > 0x10FFFF or _CONTROL.match(chr(code)):
            return "", 1
        return mark.replace("X", "x"), 0
    if name in _OF_XML and mark.endswith(";"):
        return mark, 0
    meant = html5.get(f"{name};") if mark.endswith(";") and name else None
    if meant is None:
        return f"&amp;{mark[1:]}", 0
    return meant.replace("&", "&amp;").replace("<", "&lt;"), 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One entry, unchanged."""

    text: str
    error: str | None
    """Why it is not well-formed; None when it is."""

    is_cut: bool = False
    """Whether the feed ends before the entry does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A feed in pieces: the text before its entries, the entries, and the closing tags of the elements open there."""

    head: str
    entries: tuple[Piece, ...]
    ends: str

    def feed_of(self, entries: Iterable[Piece]) -> str:
        """The feed with only these entries."""
        return "".join((self.head, *(piece.text for piece in entries), self.ends))


def cut_into_entries(text: str) -> Pieces | None:
    """The feed in pieces; None where no entry begins, or the text before them is itself broken."""
    marks = _entry_marks(text)
    if not marks:
        return None
    name = marks[0][2]
    starts = [start for start, is_end, found, _ in marks if found == name and not is_end]
    ends = [end for _, is_end, found, end in marks if found == name and is_end]
    if not starts:
        return None
    head = text[: starts[0]]
    opened = _open_elements(head)
    if opened is None:
        return None
    pieces: list[Piece] = []
    cursor = 0
    for number, start in enumerate(starts):
        following = starts[number + 1] if number + 1 < len(starts) else len(text)
        while cursor < len(ends) and ends[cursor] <= start:
            cursor += 1
        has_end = cursor < len(ends) and ends[cursor] <= following
        piece = text[start : ends[cursor] if has_end else following]
        is_empty = not has_end and re.match(r"<[^<>]*/>\s*\Z", piece) is not None
        if is_empty:
            continue
        is_cut = not has_end and number + 1 == len(starts)
        error = "the entry has no end" if not has_end else _error_of(head, piece, opened)
        pieces.append(Piece(text=piece, error=error, is_cut=is_cut))
    return Pieces(head=head, entries=tuple(pieces), ends="".join(f"</{name}>" for name in reversed(opened)))


def _entry_marks(text: str) -> list[tuple[int, bool, str, int]]:
    """Where entries begin and end outside of CDATA and comments: (start, whether it is an end, name, end of the tag)."""
    marks: list[tuple[int, bool, str, int]] = []
    position = 0
    while found := _ENTRY_MARK.search(text, position):
        position = found.end()
        if found[0] in _ENDS:
            end = text.find(_ENDS[found[0]], position)
            if end < 0:
                break
            position = end
            continue
        close = text.find(">", position)
        if close < 0:
            break
        marks.append((found.start(), bool(found[1]), found[2], close + 1))
    return marks


def _open_elements(head: str) -> list[str] | None:
    """The elements that are open at the end of `head`, outermost first; None where it is not well-formed."""
    opened: list[str] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda name, _attributes: opened.append(name)
    parser.EndElementHandler = lambda _name: opened.pop()
    try:
        parser.Parse(head.encode("utf-8", "replace"), False)
    except expat.ExpatError:
        return None
    return opened or None


_NAMESPACES = re.compile(r"""\sxmlns(?::[\w.-]{1,60})?\s*=\s*(?:"[^"<]{0,500}"|'[^'<]{0,500}')""")


def _error_of(head: str, piece: str, opened: list[str]) -> str | None:
    """Why an entry is not well-formed within its feed."""
    declared = "".join({found.split("=")[0].strip(): found for found in _NAMESPACES.findall(head[:16_000])}.values())
    parser = expat.ParserCreate("utf-8", " ")
    try:
        parser.Parse(f"<{opened[0].partition(':')[2] or opened[0]}{declared}>".encode("utf-8", "replace"), False)
        parser.Parse(piece.encode("utf-8", "replace"), False)
        parser.Parse(f"</{opened[0].partition(':')[2] or opened[0]}>".encode(), True)
    except expat.ExpatError as exc:
        return expat.errors.messages[exc.code]
    return None
