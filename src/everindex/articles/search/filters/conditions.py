"""The filter language: conditions on the columns of a collection's table, and on members of its JSON columns. Pure.

`parse_condition` turns a mapping into a frozen, hashable `Condition`, or says what is wrong and where. Checked here is what
the mapping alone decides: operators, kinds of values, budgets. Whether the columns exist, and whether the values fit their
types, depends on the table (`condition_sql.py`). No value is ever part of a message or of the text of a statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from everindex.articles.search.filters.filter_errors import shown, wrong
from everindex.articles.search.filters.values import Value, is_unicode, value_of
from everindex.errors import FilterInvalid

#: Budgets. A filter of a program has a few parts; these keep a hostile one from costing more than a search.
MAX_PARTS = 100
MAX_DEPTH = 10
MAX_VALUES = 1000
MAX_JSON_CHARS = 100_000
MAX_NAME_CHARS = 200

Operator = Literal[
    "$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$between", "$like", "$ilike", "$exists"
]  # fmt: skip
_OPERATORS: dict[str, Operator] = {
    "$eq": "$eq", "$ne": "$ne", "$in": "$in", "$nin": "$nin", "$gt": "$gt", "$gte": "$gte", "$lt": "$lt", "$lte": "$lte",
    "$between": "$between", "$like": "$like", "$ilike": "$ilike", "$exists": "$exists",
}  # fmt: skip
ORDERED = ("$gt", "$gte", "$lt", "$lte", "$between")


class Comparison(NamedTuple):
    """One column, or one member of a JSON column, compared with values. A tuple, as Value: every search makes some, and frozen
    dataclasses take three times as long."""

    name: str
    """As it was written: a column, or a column and members with dots in between."""

    members: tuple[str, ...]
    """Further members, from nested mappings; a dot in them means nothing."""

    operator: Operator
    values: tuple[Value, ...]
    """One; of $between two, of $in and $nin any number."""

    where: str
    """Where it stands in the filter, for errors."""


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions of which all, one, or (of a single one) none must hold."""

    operator: Literal["$and", "$or", "$not"]
    parts: tuple[Part, ...]


class Unexpired(NamedTuple):
    """The rows that have not expired, by the clock of the server: without a value, so that statements and cursors stay the same
    as time passes. No mapping has it; the search service adds it where rows can expire."""

    name: str = "expires_at"


Part = Comparison | Group | Unexpired


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter. Two are equal where they have the same parts in the same order."""

    root: Part = field(compare=False)
    digest: bytes = field(init=False)
    """16 bytes that stand for the whole filter: what cursors belong to, and the key of what is remembered about it."""

    def __post_init__(self) -> None:
        content = repr(_plain(self.root)).encode()  # of nested tuples of texts: no two filters have the same
        object.__setattr__(self, "digest", hashlib.blake2b(content, digest_size=16).digest())

    @property
    def is_empty(self) -> bool:
        return False

    @property
    def comparisons(self) -> Iterator[Comparison]:
        """All comparisons, in the order in which they were written."""
        return _comparisons(self.root)

    @property
    def names(self) -> tuple[str, ...]:
        """What is compared, each once, without any value; safe to log."""
        return tuple(dict.fromkeys(shown(".".join((each.name, *each.members))) for each in self.comparisons))


def all_of(parts: Sequence[Part]) -> Part:
    """The condition that all of `parts` (at least one) hold."""
    return parts[0] if len(parts) == 1 else Group("$and", tuple(parts))


def equals(name: str, value: str) -> Comparison:
    """The condition that a column equals a text."""
    return Comparison(name, (), "$eq", (value_of(value, name),), name)


def parse_condition(mapping: Mapping[str, Any]) -> Condition | None:
    """The condition that `mapping` stands for; None where it is empty. Raises FilterInvalid."""
    if not mapping:
        return None
    budget = _Budget()
    return Condition(_conditions(mapping, "", budget, depth=1))


def parse_json(text: str) -> Mapping[str, Any]:
    """The mapping that a JSON text holds. Raises FilterInvalid for what is no JSON object."""
    if len(text) > MAX_JSON_CHARS:
        raise FilterInvalid(
            f"the filter has {len(text):,} characters.",
            why=f"a filter may have {MAX_JSON_CHARS:,}.",
            next_step="select with fewer values.",
        )
    try:
        found = json.loads(text, parse_constant=_no_number, parse_float=Decimal, object_pairs_hook=_object)
    except (ValueError, RecursionError) as exc:
        raise FilterInvalid(
            "the filter is not JSON.",
            why=f"{exc}." if isinstance(exc, ValueError) else "it is nested too deeply.",
            next_step='write it as  {"year": {"$gte": 2024}}.',
        ) from None
    if not isinstance(found, dict):
        raise FilterInvalid(
            "the filter is not a JSON object.",
            why="a filter names columns and what they are compared with.",
            next_step='write it as  {"year": {"$gte": 2024}}.',
        )
    return found


# --- reading a mapping -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Budget:
    parts: int = 0
    values: int = 0

    def take(self, where: str, *, parts: int = 0, values: int = 0) -> None:
        self.parts += parts
        self.values += values
        if self.parts > MAX_PARTS:
            raise wrong(
                where, f"this is its part {self.parts}", f"a filter has at most {MAX_PARTS} parts.",
                "use $in for a list of values.",
            )  # fmt: skip
        if self.values > MAX_VALUES:
            raise wrong(
                where, f"more than {MAX_VALUES:,} values", f"a filter has at most {MAX_VALUES:,} values in all.",
                "select by a column that these rows share.",
            )  # fmt: skip


def _conditions(mapping: object, where: str, budget: _Budget, *, depth: int) -> Part:
    """A mapping of columns and of $and, $or, $not: all of them must hold."""
    _require_depth(where, depth)
    if not isinstance(mapping, Mapping) or not mapping:
        raise wrong(
            where, "a mapping that names a column is missing", "a condition is a column and what it is compared with.",
            'write it as  {"year": {"$gte": 2024}}.',
        )  # fmt: skip
    parts: list[Part] = []
    for key, value in mapping.items():
        at = _below(where, key)
        if key in ("$and", "$or"):
            parts.append(_group(key, value, at, budget, depth=depth))
        elif key == "$not":
            parts.append(Group("$not", (_conditions(value, at, budget, depth=depth + 1),)))
        elif key.startswith("$"):
            raise wrong(
                at, f"no column can be named {shown(key)}", "names that begin with $ are operators, and stand below a column.",
                f'write it as  {{"column": {{"{shown(key)}": value}}}}.' if key in _OPERATORS
                else "operators above columns are $and, $or and $not.",
            )  # fmt: skip
        else:
            parts += _field(key, (), value, at, budget, depth=depth)
    return all_of(parts)


def _group(key: Literal["$and", "$or"], value: object, where: str, budget: _Budget, *, depth: int) -> Part:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise wrong(
            where, "a list of conditions is missing", f"{key} takes a list of one condition or more.",
            f'write it as  {{"{key}": [{{"lang": "en"}}, {{"lang": "de"}}]}}.',
        )  # fmt: skip
    budget.take(where, parts=1)
    return Group(
        key,
        tuple(_conditions(each, f"{where}[{number}]", budget, depth=depth + 1) for number, each in enumerate(value)),
    )


def _field(
    name: str, members: tuple[str, ...], value: object, where: str, budget: _Budget, *, depth: int
) -> list[Part]:
    """What is said of a column or a member: a value, operators, or further members."""
    _require_depth(where, depth)
    if not isinstance(value, Mapping):
        return [_comparison(name, members, "$eq", value, where, budget)]
    operators = [key for key in value if isinstance(key, str) and key.startswith("$")]
    if not value or 0 < len(operators) < len(value):
        raise wrong(
            where, "operators and members are mixed" if value else "nothing is compared",
            "below a name stand either operators ($gte, $in, …) or members of a JSON column.",
            'write it as  {"year": {"$gte": 2024}}  or  {"meta": {"author": "Ada"}}.',
        )  # fmt: skip
    found: list[Part] = []
    for key, below in value.items():
        at = _below(where, key)
        if not operators:
            found += _field(name, (*members, key), below, at, budget, depth=depth + 1)
        elif key == "$not":
            found.append(Group("$not", (_negated(name, members, below, at, budget, depth=depth + 1),)))
        elif key in _OPERATORS:
            found.append(_comparison(name, members, _OPERATORS[key], below, at, budget))
        else:
            raise wrong(
                at, f"there is no operator {shown(key)} here", f"operators are {', '.join([*_OPERATORS, '$not'])}.",
                "put $and and $or above the column, with a condition in each of their parts."
                if key in ("$and", "$or") else "correct the operator.",
            )  # fmt: skip
    return found


def _negated(name: str, members: tuple[str, ...], value: object, where: str, budget: _Budget, *, depth: int) -> Part:
    return all_of(_field(name, members, value, where, budget, depth=depth))


def _comparison(
    name: str, members: tuple[str, ...], operator: Operator, given: object, where: str, budget: _Budget
) -> Comparison:
    if operator in ("$in", "$nin", "$between"):
        if not isinstance(given, Sequence) or isinstance(given, (str, bytes)):
            if not isinstance(given, (set, frozenset)):
                raise wrong(
                    where, "a list is missing", f"{operator} compares with several values.", f'write  "{operator}": [1, 2].'
                )  # fmt: skip
            given = sorted(given, key=str)
        if operator == "$between" and len(given) != 2:
            raise wrong(
                where, f"$between has {len(given)} values", "it takes the first and the last value, both included.",
                'write  "$between": [2020, 2024].',
            )  # fmt: skip
        if not given:
            raise wrong(
                where, "its list is empty", "no row can be in an empty list, and every row is outside of it.",
                "leave the condition out, or name at least one value.",
            )  # fmt: skip
        budget.take(where, parts=1, values=len(given))
        values = tuple(value_of(each, f"{where}[{number}]") for number, each in enumerate(given))
    else:
        budget.take(where, parts=1, values=1)
        values = (value_of(given, where),)
    _check_kinds(operator, values, where)
    return Comparison(name, members, operator, values, where)


def _check_kinds(operator: Operator, values: tuple[Value, ...], where: str) -> None:
    if operator in ("$eq", "$ne", "$in", "$nin"):
        return
    kinds = {value.kind for value in values}
    if operator == "$exists" and kinds != {"boolean"}:
        raise wrong(
            where, "true or false is missing", "$exists asks whether a row has a value there.", 'write  "$exists": true.'
        )  # fmt: skip
    if operator in ("$like", "$ilike") and kinds != {"text"}:
        raise wrong(
            where, "a pattern is missing", f"{operator} compares with a text.", f'write  "{operator}": "%word%".'
        )
    if operator in ("$like", "$ilike"):
        pattern = values[0].text
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            raise wrong(
                where, "the pattern ends with its escape character", "a backslash makes the next character ordinary.",
                "double the backslash to look for one.",
            )  # fmt: skip
    if operator in ORDERED and kinds & {"null", "boolean"}:
        raise wrong(
            where, f"a value of kind {'null' if 'null' in kinds else 'boolean'} has no order",
            f"{operator} takes numbers, texts, dates and times.", "use $eq, $ne or $exists.",
        )  # fmt: skip


def _require_depth(where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise wrong(
            where, "it is nested too deeply", f"a filter has at most {MAX_DEPTH} levels.", "write it with fewer levels."
        )  # fmt: skip


def _below(where: str, key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > MAX_NAME_CHARS or "\0" in key or not is_unicode(key):
        raise wrong(
            where, "a name cannot be one of a column or member",
            f"names are Unicode texts of 1 to {MAX_NAME_CHARS} characters without NUL.", "correct the name.",
        )  # fmt: skip
    return f"{where}.{shown(key)}" if where else shown(key)


def _comparisons(part: Part) -> Iterator[Comparison]:
    if isinstance(part, Comparison):
        yield part
    elif isinstance(part, Group):
        for each in part.parts:
            yield from _comparisons(each)


def _plain(part: Part) -> tuple[Any, ...]:
    if isinstance(part, Comparison):
        return part.name, part.members, part.operator, *[(value.kind, value.text) for value in part.values]
    if isinstance(part, Unexpired):
        return ("unexpired",)
    return part.operator, *[_plain(each) for each in part.parts]


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a name that stands twice would silently replace a condition."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} stands twice in one object: use $and")
    return found
