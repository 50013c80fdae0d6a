"""The statements of a text and their parameters. Parses only quotes, comments and placeholders; nothing is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from everindex.errors import StatementNotCheckable

#: PostgreSQL manual, "Lexical Structure". Placeholders of drivers precede the single characters that they begin with:
#: psycopg and psycopg2 (%s, %(name)s), PostgreSQL, asyncpg and Npgsql ($1), SQLAlchemy and JPA (:name), JDBC and ODBC (?),
#: Npgsql (@name).
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>--[^\n]*)|(?P<block>/\*)
    |(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<dollar>\$(?:[^\W\d]\w*)?\$)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<cast>::|:=)
    |(?P<percent>%%)|(?P<format>%[sbt](?!\w))|(?P<pyformat>%\([^)]+\)[sbt])
    |(?P<numbered>\$\d+)
    |(?P<named>(?<![\w:\\\]]):[^\W\d]\w*(?!\w|:(?!:)))
    |(?P<at>(?<![\w@<>#&|!~+*/%^=?-])@[^\W\d]\w*)
    |(?P<question>\?)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
#: Python's representation of bytes that it cannot decode.
_NO_LETTER = re.compile("[\ud800-\udfff]")
_BLOCK_ENDS = re.compile(r"/\*|\*/")
_NAME_COMMENT = re.compile(r"--\s*name\s*:\s*([\w.-]+)", re.IGNORECASE)
#: After one of these words a `?` is a parameter; after any other word it is the operator of jsonb.
_KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        "select where when then else case and or not in between like ilike similar is distinct from limit offset fetch "
        "first next values by on having any all some array interval as escape zone return using for to",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A piece of SQL: its kind is a group of _TOKEN, comments and quoted texts are whole."""

    kind: str
    text: str
    start: int

    @property
    def is_significant(self) -> bool:
        return self.kind not in ("space", "comment", "block")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a text."""

    text: str
    """As it was written, without the semicolon."""

    numbered: str
    """With `$1`, `$2`, … for its placeholders."""

    parameters: tuple[str, ...] = ()
    """The names of `$1`, `$2`, …, or their positions from "1" on."""

    name: str | None = None
    """From a comment `-- name: xyz` before it."""

    line: int = 1

    session: tuple[Statement, ...] = ()
    """The SETs that apply to it (script.py)."""

    without_effect: tuple[Statement, ...] = ()
    """SETs before it that were local to a transaction although none was open."""


def statements(text: str) -> list[Statement]:
    """The statements of a text, split at the semicolons outside quotes, comments and dollar quotes.

    Raises StatementNotCheckable for a text with a NUL, at which PostgreSQL would end it, and for undecodable bytes.
    """
    if "\0" in text or _NO_LETTER.search(text):
        raise StatementNotCheckable(
            "the text is not SQL.",
            why="it contains a NUL, or bytes that are not UTF-8: PostgreSQL accepts neither.",
            next_step="pass the SELECT as text, or a file of SQL statements in UTF-8.",
        )
    found: list[Statement] = []
    piece: list[Token] = []
    for token in [*tokens(text), Token(kind="other", text=";", start=len(text))]:
        if token.kind == "other" and token.text == ";":
            if any(part.is_significant for part in piece):
                found.append(_statement(piece, text))
            piece = []
        else:
            piece.append(token)
    return found


def part(statement: Statement, start: int) -> Statement:
    """The rest of a statement from a position of `numbered` on."""
    before = statement.numbered[:start]
    return replace(
        statement,
        text=statement.numbered[start:],
        numbered=statement.numbered[start:],
        line=statement.line + before.count("\n"),
    )


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, in order and without gaps."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative matches any character
        end = match.end()
        if match.lastgroup == "block":
            end = _end_of_block(text, end)
        elif match.lastgroup == "dollar":
            closing = text.find(match.group(), end)
            end = len(text) if closing < 0 else closing + len(match.group())
        kind = "quoted" if match.lastgroup == "dollar" else str(match.lastgroup)
        yield Token(kind=kind, text=text[position:end], start=position)
        position = end


def masked(text: str) -> str:
    """The same text with the inside of every quoted literal blanked: same length, same positions. Names are unchanged."""
    return "".join(
        "'" + " " * (len(token.text) - 2) + "'" if token.kind == "quoted" and token.text[0] != '"' else token.text
        for token in tokens(text)
    )


def _end_of_block(text: str, position: int) -> int:
    """Block comments nest."""
    depth = 1
    for match in _BLOCK_ENDS.finditer(text, position):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _statement(piece: list[Token], text: str) -> Statement:
    first = next(number for number, token in enumerate(piece) if token.is_significant)
    names = [_NAME_COMMENT.match(token.text) for token in piece[:first] if token.kind == "comment"]
    named = [match.group(1) for match in names if match]
    body = piece[first:]
    while not body[-1].is_significant:
        body.pop()
    numbered, parameters = _number(body)
    return Statement(
        text="".join(token.text for token in body),
        numbered=numbered,
        parameters=parameters,
        name=named[-1] if named else None,
        line=text.count("\n", 0, body[0].start) + 1,
    )


def _number(body: list[Token]) -> tuple[str, tuple[str, ...]]:
    """The text with `$n`, and their names. A statement has one style of placeholders: the first of these that occurs in it."""
    kinds = {token.kind for token in body}
    if kinds & {"format", "pyformat"}:
        # In this style every percent sign of the text is doubled, also within quotes.
        return _replace(body, {"format", "pyformat"}, double="%")
    if "numbered" in kinds:
        highest = max(int(token.text[1:]) for token in body if token.kind == "numbered")
        return "".join(token.text for token in body), tuple(str(number + 1) for number in range(highest))
    for style in ("named", "at"):
        if style in kinds:
            return _replace(body, {style})
    if "question" in kinds:
        return _replace(_without_operators(body), {"question"})
    return "".join(token.text for token in body), ()


def _replace(body: list[Token], style: set[str], *, double: str = "") -> tuple[str, tuple[str, ...]]:
    names: list[str] = []
    parts: list[str] = []
    for token in body:
        if token.kind not in style:
            parts.append(token.text.replace(double * 2, double) if double else token.text)
            continue
        match token.kind:
            case "pyformat":
                name = token.text[2:-2]
            case "named" | "at":
                name = token.text[1:]
            case _:
                name = str(len(names) + 1)
        if name not in names:
            names.append(name)
        parts.append(f"${names.index(name) + 1}")
    return "".join(parts), tuple(names)


def _without_operators(body: list[Token]) -> list[Token]:
    """Marks question marks that are not placeholders as operators: `data ? 'key'`, `?|`, `?&`, `@?`, and `??` of JDBC."""
    kept: list[Token] = []
    before: Token | None = None
    for number, token in enumerate(body):
        after = body[number + 1].text if number + 1 < len(body) else ""
        beside = body[number - 1].text if number else ""
        if token.kind == "question":
            if before is not None and before.kind == "doubled":
                token = Token(kind="other", text="", start=token.start)
            elif after == "?":
                token = Token(kind="doubled", text="?", start=token.start)
            elif beside == "@" or (after in ("|", "&") and _is_operand(before)) or _is_operand(before):
                token = Token(kind="other", text="?", start=token.start)
        kept.append(token)
        if token.is_significant:
            before = token
    return kept


def _is_operand(token: Token | None) -> bool:
    """Whether this is the end of a value, so that an operator follows."""
    if token is None:
        return False
    if token.kind == "word":
        return token.text.lower() not in _KEYWORDS
    return token.kind in ("quoted", "number", "question") or token.text in (")", "]")
