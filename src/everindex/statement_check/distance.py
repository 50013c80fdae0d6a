"""The distances that a plan computes, read from the expressions that EXPLAIN prints, not from the user's SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from everindex.statement_check.catalog import Operator
from everindex.statement_check.plan import Node, Plan
from everindex.statement_check.text import masked, tokens

#: inner_product() is the negative of <#>, and not the function of any operator.
_OTHER_FUNCTIONS = {"inner_product": "<#>"}
_COLUMN = r'("(?:[^"]|"")+"|[a-z_][\w$]*)\.("(?:[^"]|"")+"|[a-z_][\w$]*)'
_LONG = 40

Place = Literal["order", "filter", "output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A distance in an expression."""

    before: str
    """The parts of the expression before and after it; both are empty if it is the whole expression."""

    after: str
    text: str
    left: str
    right: str
    operator: str
    spelled_operator: str
    """With OPERATOR(schema.…) if the schema of pgvector is not in search_path."""

    function: str | None
    """The name of the function that computes it, if not an operator."""

    place: Place
    node: Node
    position: int = 0
    """The position of its key in the ORDER BY, from 0."""

    ending: str = ""
    """DESC and NULLS FIRST after the key."""

    @property
    def is_bare(self) -> bool:
        return not self.before.strip("( ") and not self.after.strip(") ")


def distances(plan: Plan, operators: tuple[Operator, ...]) -> list[Distance]:
    """Every distance of a plan: first those it is ordered by, then those in conditions, then those only in the output."""
    found: list[Distance] = []
    for node in plan.nodes:
        if node.kind in ("Sort", "Incremental Sort"):
            for position, key in enumerate(node.facts.get("Sort Key", [])):
                expression, ending = _ending(key)
                found += _in(expression, operators, "order", node, position=position, ending=ending)
    for node in plan.nodes:
        for name in ("Filter", "Join Filter"):
            found += _in(str(node.facts.get(name, "")), operators, "filter", node)
    for node in plan.nodes:
        for output in node.facts.get("Output", []):
            found += _in(output, operators, "output", node)
    return found


def columns_of(expression: str, aliases: set[str]) -> list[tuple[str, str]]:
    """(alias, column), as quoted, of every reference to a scanned relation."""
    return [
        (match.group(1), match.group(2))
        for match in re.finditer(r"(?<![\w.\"])" + _COLUMN + r"(?![\w(])", masked(expression))
        if _unquoted(match.group(1)) in aliases
    ]


def is_bare_column(expression: str) -> bool:
    return re.fullmatch(_COLUMN, expression.strip()) is not None


def shown(text: str) -> str:
    """An expression for a message: with long literals shortened, and without the casts that the server adds in printing."""
    short = "".join(
        "'…'" if token.kind == "quoted" and token.text[0] != '"' and len(token.text) > _LONG else token.text
        for token in tokens(text)
    )
    short = re.sub(r"'(-?[\d.]+)'::(double precision|numeric|integer)", r"\1", short)
    short = re.sub(r"'…'::[\w.\"]+(\(\d+\))?", "'…'", short)
    # The value of a one-row subquery, in PostgreSQL 17 and later, and before.
    short = re.sub(r"\(InitPlan \d+\)\.col\d+|\$\d+", "(SELECT …)", short)
    while short.startswith("(") and _closing(short, 0) == len(short) - 1:
        short = short[1:-1]
    return short


def _ending(key: str) -> tuple[str, str]:
    match = re.search(r"(?P<ending>(\s+(DESC|USING \S+))?(\s+NULLS (FIRST|LAST))?)$", key)
    assert match is not None  # the pattern may be empty
    return key[: match.start()], match.group("ending").strip()


def _in(
    expression: str, operators: tuple[Operator, ...], place: Place, node: Node, *, position: int = 0, ending: str = ""
) -> Iterator[Distance]:
    plain = masked(expression)
    for name in sorted({operator.name for operator in operators}, key=len, reverse=True):
        spelled = rf" (?:{re.escape(name)}|OPERATOR\((?:[^()\s]+)\.{re.escape(name)}\)) "
        for match in re.finditer(spelled, plain):
            opening, closing = _around(plain, match.start())
            if opening is None or closing is None:
                opening, closing = -1, len(plain)
            yield Distance(
                before=expression[: max(opening, 0)],
                after=expression[closing + 1 :],
                text=expression[max(opening, 0) : closing + 1],
                left=expression[opening + 1 : match.start()],
                right=expression[match.end() : closing],
                operator=name,
                spelled_operator=match.group().strip(),
                function=None,
                place=place,
                node=node,
                position=position,
                ending=ending,
            )
    functions = {operator.function: operator.name for operator in operators} | _OTHER_FUNCTIONS
    for match in re.finditer(r"(?:\b[\w\"]+\.)?\b(" + "|".join(map(re.escape, functions)) + r")\(", plain):
        closing = _closing(plain, match.end() - 1)
        comma = _comma(plain, match.end(), closing)
        if comma is None:
            continue
        yield Distance(
            before=expression[: match.start()],
            after=expression[closing + 1 :],
            text=expression[match.start() : closing + 1],
            left=expression[match.end() : comma],
            right=expression[comma + 1 : closing].strip(),
            operator=functions[match.group(1)],
            spelled_operator=functions[match.group(1)],
            function=match.group(1),
            place=place,
            node=node,
            position=position,
            ending=ending,
        )


def _around(text: str, position: int) -> tuple[int | None, int | None]:
    """The parentheses around a position."""
    depth, opening = 0, None
    for at in range(position - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth < 0:
            opening = at
            break
    return opening, None if opening is None else _closing(text, opening)


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] == "(") - (text[at] == ")")
        if depth == 0:
            return at
    return len(text) - 1


def _comma(text: str, start: int, end: int) -> int | None:
    depth = 0
    for at in range(start, end):
        depth += (text[at] in "([") - (text[at] in ")]")
        if text[at] == "," and depth == 0:
            return at
    return None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
