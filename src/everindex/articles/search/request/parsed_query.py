"""The parsed query: the words it wants and the words it excludes, rewritten for to_tsquery. Pure.

Quotes, `or` and minus are those of websearch_to_tsquery, whose own parser fails on a row of dashes ("tsquery stack too
small"), takes `asyncio.Queue` for one word, knows only one spelling of a word, and does not limit what ranking a
thousand words costs.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from everindex.articles.search.request.word_breaks import JOINTS, LETTERS_ALONE, WITHIN_WORDS

#: Reading and ranking an article takes 0.1 ms with a few words, 0.14 ms with 32, 2 ms with 256 (docs/measurements/hybrid.md).
#: With 32, a whole text as the query finds a twentieth less (docs/measurements/finding.md).
MOST_WORDS = 64
#: For up to this many adjacent words, spellings that join two of them are searched for too: `e mail`, `http client
#: factory`.
MOST_JOINED = 3

#: A phrase in quotes (the last closing quote may be missing), or a run of characters between spaces.
_TERM = re.compile(r'(?:(?<!\S)-)?"[^"]*(?:"|$)|[^\s"]+')
#: What ends a word inside a term: the joints of the document, and the characters that PostgreSQL reads as operators.
_SPLIT = re.compile(rf"[{re.escape(JOINTS)}()!&|\s]+")
#: The words that PostgreSQL's parser can find in a term; it takes _ for a space.
_RUN = re.compile(r"[^\W_]+")
_ALONE = re.compile(rf"([{LETTERS_ALONE}])")
#: A name whose last sign distinguishes it: C++, C#.
_SIGNED = re.compile(r"([^\W_])(\+\+|#)")
_WITHIN = re.compile(rf"[{re.escape(WITHIN_WORDS.replace(chr(39), ''))}]")
#: Between a letter and a digit: covid19, 5x.
_SEAM = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
#: A word as `_quoted` writes it.
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
#: A minus before a number belongs to it.
_NUMBER = re.compile(r"-\d+(?:[.,]\d+)*%?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """What a query wants, and what it excludes."""

    wanted: str
    """The text as written, without the parts it excludes; may be empty."""

    query: str
    """The whole query for to_tsquery; empty where it has no letter and no digit."""

    words: str
    """Its words for to_tsquery, none joined with the next: if this gives no lexeme, they are all stop words."""

    left_out: str | None
    """A query for any of the words it excludes; None where it excludes none."""

    items: tuple[str, ...]
    """Each word or phrase that it wants, for to_tsquery: the words of `query` one by one."""

    ranked: str
    """The words by which the answer is ranked, as plain text: those of `items`, and the spellings that join two of them."""

    is_plain: bool
    """True for words alone: without quotes, `or` and minus, which say exactly what is wanted."""

    may_be_widened: bool
    """True without a minus: rows that have some of the words and phrases may follow those that the query asks for."""

    is_cut: bool
    """True when the text has more than MOST_WORDS words; `query` then has only the first of them."""


def parse(text: str) -> ParsedQuery:
    """Understands "quoted phrases", `or`, and a minus right before a word or phrase, but not before a number; `asyncio.Queue`
    is a phrase of two."""
    sendable = text.replace("\0", " ").encode("utf-8", "replace").decode()
    if not sendable.isascii():
        sendable = unicodedata.normalize("NFKC", sendable).replace("\0", " ")
    wanted: list[str] = []
    either: list[list[str]] = [[]]
    side_by_side: list[str] = []
    every: list[str] = []
    left_out: list[str] = []
    is_plain = True
    last, words, is_cut = 0, 0, False
    for match in _TERM.finditer(sendable):
        if not match[0].startswith(('"', '-"')) and match[0].lower() == "or":
            either[-1] += _side_by_side(side_by_side)
            side_by_side = []
            either.append([])
            is_plain = False
            continue
        is_minus = _has_minus(match)
        written = match[0][1:] if is_minus else match[0]
        pieces, count = _pieces(written, most=MOST_WORDS - words)
        words += count
        is_plain = is_plain and not is_minus and '"' not in written
        is_cut = is_cut or len(_RUN.findall(_ALONE.sub(r" \1 ", written))) > count
        if is_minus:
            wanted.append(sendable[last : match.start()])
            last = match.end()
        if not pieces:
            continue
        if is_minus or len(pieces) > 1 or '"' in written or _SIGNED.search(written):
            either[-1] += _side_by_side(side_by_side)
            side_by_side = []
            term = _term(written, pieces)
            either[-1].append(f"!{term}" if is_minus else term)
            every.append(term)
            left_out += [term] if is_minus else []
        else:
            side_by_side += pieces
            every += map(_quoted, pieces)
    either[-1] += _side_by_side(side_by_side)
    wanted.append(sendable[last:])
    items = tuple(dict.fromkeys(term for term in every if term not in left_out))
    positive = (term for terms in either for term in terms if not term.startswith("!"))
    return ParsedQuery(
        wanted=" ".join("".join(wanted).split()) if len(wanted) > 1 else sendable,
        query=" | ".join(" & ".join(terms) for terms in either if terms),
        words=" & ".join(every),
        left_out=" | ".join(left_out) or None,
        items=items,
        ranked=" ".join(dict.fromkeys(word for term in (*items, *positive) for word in words_of(term))),
        is_plain=is_plain,
        may_be_widened=not left_out,
        is_cut=is_cut,
    )


def _has_minus(match: re.Match[str]) -> bool:
    """`-word`, but not `--option`, `e-mail`, `-5` or a dash by itself."""
    follows_space = match.start() == 0 or match.string[match.start() - 1].isspace()
    return (
        follows_space
        and re.match(r'-[^\W_]|-"', match[0]) is not None
        and bool(_RUN.search(match[0]))
        and _NUMBER.fullmatch(match[0]) is None
    )


def _pieces(term: str, *, most: int) -> tuple[list[str], int]:
    """The first `most` words of a term, split at joints, and their number."""
    apart = _ALONE.sub(r" \1 ", term.replace('"', " "))
    runs = list(_RUN.finditer(apart))[:most]
    if not runs:
        return [], 0
    return [piece for piece in _SPLIT.split(apart[: runs[-1].end()]) if _RUN.search(piece)], len(runs)


def _term(term: str, pieces: list[str]) -> str:
    """A term between spaces or in quotes, in each spelling that an article may use."""
    phrase = _phrase(pieces)
    if '"' in term:
        return phrase
    if _SIGNED.search(term):
        signed = _SIGNED.sub(r"\1\2 ", term).replace("++", "plusplus").replace("#", "sharp")
        return _phrase([piece for piece in _SPLIT.split(signed) if _RUN.search(piece)])
    if len(pieces) == 1:
        return _word(pieces[0])
    if _WITHIN.search(term) and not any(_ALONE.search(piece) for piece in pieces):
        return f"({phrase} | {_quoted(''.join(pieces))})"
    return phrase


def _side_by_side(words: list[str]) -> list[str]:
    """Separate words that an article may write as one."""
    if not 2 <= len(words) <= MOST_JOINED or not all(_RUN.fullmatch(word) for word in words):
        return [_word(word) for word in words]
    ways = [" & ".join(map(_word, words)), _quoted("".join(words))]
    if len(words) == 3:
        first, second, third = words
        ways += [f"{_quoted(first + second)} & {_word(third)}", f"{_word(first)} & {_quoted(second + third)}"]
    return [f"({' | '.join(ways)})"]


def _word(word: str) -> str:
    """One word; a word of letters and digits may be two in the article."""
    seams = [seam.start() for seam in _SEAM.finditer(word)] if _RUN.fullmatch(word) else []
    if not 1 <= len(seams) <= 2:
        return _quoted(word)
    ways = [_quoted(word), *(_phrase([word[:seam], word[seam:]]) for seam in seams)]
    return f"({' | '.join(ways)})"


def _phrase(pieces: list[str]) -> str:
    if len(pieces) == 1:
        return _quoted(pieces[0])
    return f"({' <-> '.join(map(_quoted, pieces))})"


def words_of(term: str) -> list[str]:
    """The quoted words of a part of a query, without their quotes."""
    return [word.replace("''", "'") for word in _QUOTED.findall(term)]


def _quoted(piece: str) -> str:
    """A piece quoted for to_tsquery, whatever it contains."""
    return "'" + piece.replace("\\", " ").replace("'", "''") + "'"
