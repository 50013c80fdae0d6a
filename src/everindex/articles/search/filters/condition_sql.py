"""Conditions of the filter language as SQL over one table: typed by its columns, and with every value as a parameter.

A column is compared in its own type, so that its index can serve the condition. The text depends on names, operators and
types alone: filters of one shape share one prepared statement, and a list is one parameter whatever its length.

Every condition is true or false, never unknown: a row without a value there equals nothing, and is neither less nor greater
than anything. So $ne, $nin and $not pass exactly the rows that $eq, $in and the condition itself do not.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from typing import assert_never

from everindex.articles.search.filters.conditions import ORDERED, Comparison, Condition, Group, Part, Unexpired
from everindex.articles.search.filters.days import day_after, first_day
from everindex.articles.search.filters.filter_errors import shown, wrong
from everindex.articles.search.filters.targets import JSON_TYPES, Target, find_target, quoted
from everindex.articles.search.filters.values import Value
from everindex.articles.table import CollectionTable
from everindex.errors import QueryInvalid

_INTEGERS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_FLOATS = ("real", "double precision")
TEXTS = ("text", "character varying", "bpchar", "character", "name")
TIMES = ("timestamp without time zone", "timestamp with time zone")
#: Of several values of a list, the widest of these is the type of all.
_WIDTHS = (
    "smallint", "integer", "bigint", "real", "double precision", "numeric", "date", "timestamp without time zone"
)  # fmt: skip
_SYMBOLS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<=", "$like": "LIKE", "$ilike": "ILIKE"}
_EXPIRED_URIS = "SELECT e.expired_uri FROM everindex_meta.article_expiry e WHERE e.expires_at <= pg_catalog.now()"
_MOST_REAL, _LEAST_REAL = 3.4e38, 1.5e-45
_IN_WORDS = {
    "null": "null",
    "text": "a text",
    "number": "a number",
    "boolean": "a boolean",
    "date": "a date",
    "time": "a time",
}


def condition_sql(table: CollectionTable, condition: Condition) -> tuple[str, dict[str, str]]:
    """The condition as an expression with psycopg's named placeholders (`f0`, `f1`, …), and its parameters as text.

    Raises FilterInvalid for a column that the table does not have, or a value that does not fit its type.
    """
    writer = _Writer(table)
    return writer.part(condition.root), writer.parameters


def unexpired_sql(table: CollectionTable) -> str:
    """True for a row that has not expired; of a table whose rows cannot, `true`."""
    if table.has_expiry_records:
        # Not an anti-join, which could cost the order in which a vector index gives the rows: a set, made once.
        key = quoted(table.spec.key)
        return f"{key}::pg_catalog.text NOT IN ({_EXPIRED_URIS})"
    if table.spec.expires is None:
        return "true"
    column, kind = quoted(table.spec.expires), table.columns[table.spec.expires]
    now = {
        "timestamp with time zone": "pg_catalog.now()",
        "timestamp without time zone": "(pg_catalog.now() AT TIME ZONE 'UTC')",
        "date": "(pg_catalog.now() AT TIME ZONE 'UTC')::date",
    }[kind]  # read_table has looked at the type
    return f"({column} IS NULL OR {column} > {now})"


def names_a_date(table: CollectionTable, condition: Condition) -> bool:
    """Whether the condition compares the date of the collection by its order."""
    date = table.spec.date
    return date is not None and any(
        is_range(table, each) or (each.name == date and each.operator in ORDERED) for each in condition.comparisons
    )


class _Writer:
    def __init__(self, table: CollectionTable) -> None:
        self._table = table
        self.parameters: dict[str, str] = {}
        self._last_path = ""

    def part(self, part: Part) -> str:
        match part:
            case Comparison():
                return self._comparison(part)
            case Unexpired():
                return unexpired_sql(self._table)
            case Group(operator="$not"):
                return f"({self.part(part.parts[0])}) IS NOT TRUE"
            case Group(operator=operator):
                joint = " AND " if operator == "$and" else " OR "
                return joint.join(f"({self.part(each)})" for each in part.parts)
            case _:
                assert_never(part)

    def _placed(self, value: str, kind: str) -> str:
        """A parameter of that type."""
        name = f"f{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s::{kind}"

    def _comparison(self, comparison: Comparison) -> str:
        if is_range(self._table, comparison):
            return self._since_or_until(comparison)
        target = find_target(self._table, comparison.name, comparison.members, comparison.where)
        values = comparison.values
        known = [value for value in values if value.kind != "null"]
        match comparison.operator:
            case "$exists":
                return f"{self._value_or_null(target)} IS {'NOT ' if values[0].text == 'true' else ''}NULL"
            case "$eq" | "$in":
                return self._is_one_of(target, comparison, known, has_null=len(known) < len(values))
            case "$ne" | "$nin":
                found = self._is_one_of(target, comparison, known, has_null=len(known) < len(values))
                return f"({found}) IS NOT TRUE"
            case "$like" | "$ilike":
                left, right = self._as_text(target, comparison), self._placed(values[0].text, "text")
                return f"{left} {_SYMBOLS[comparison.operator]} {right}"
            case "$gt" | "$gte" | "$lt" | "$lte":
                left, (right,) = self._ordered(target, comparison)
                return f"{left} {_SYMBOLS[comparison.operator]} {right}"
            case "$between":
                left, (first, last) = self._ordered(target, comparison)
                return f"{left} >= {first} AND {left} <= {last}"
            case _:
                assert_never(comparison.operator)

    # --- what is compared ----------------------------------------------------------------------------------------------

    def _json(self, target: Target) -> str:
        return target.as_jsonb

    def _path(self, target: Target) -> str:
        return self._placed(array_text(target.members), "pg_catalog.text[]")

    def _value_or_null(self, target: Target) -> str:
        """The column, or the text of the member; NULL where the row has none, and for JSON's null."""
        if target.kind not in JSON_TYPES:
            return target.column
        return f"({self._json(target)} OPERATOR(pg_catalog.#>>) {self._path(target)})"

    # --- equality ------------------------------------------------------------------------------------------------------

    def _is_one_of(self, target: Target, comparison: Comparison, values: Sequence[Value], *, has_null: bool) -> str:
        if not values:
            return f"{self._value_or_null(target)} IS NULL"
        found = self._equal(target, comparison, values)
        return f"{found} OR {self._value_or_null(target)} IS NULL" if has_null else found

    def _equal(self, target: Target, comparison: Comparison, values: Sequence[Value]) -> str:
        kind = target.kind
        if kind in JSON_TYPES:
            # Containment is served by a GIN index on the column, whatever the member; each value alone or in an array.
            documents = [
                _document(target.members, each) for value in map(_as_json, values) for each in (value, f"[{value}]")
            ]
            placed = self._placed(array_text(documents), "pg_catalog.jsonb[]")
            return f"{self._json(target)} OPERATOR(pg_catalog.@>) ANY ({placed})"
        if kind.endswith("[]"):
            element = kind[:-2]
            texts, cast = _typed(comparison, target, element, values)
            column = target.column
            if cast is None:
                cast, column = "text", f"{column}::text[]"
            elif cast != element:
                column = f"{column}::{cast}[]"
            return f"{column} OPERATOR(pg_catalog.&&) {self._placed(array_text(texts), f'{_escaped(cast)}[]')}"
        texts, cast = _typed(comparison, target, kind, values)
        column = target.column if cast is not None else f"{target.column}::text"
        kind = _escaped(cast or "text")
        if comparison.operator in ("$eq", "$ne"):
            return f"{column} = {self._placed(texts[0], kind)}"
        return f"{column} = ANY ({self._placed(array_text(texts), f'{kind}[]')})"

    # --- order and patterns --------------------------------------------------------------------------------------------

    def _ordered(self, target: Target, comparison: Comparison) -> tuple[str, list[str]]:
        """The left side of a comparison by order, and its right sides."""
        values, kind = comparison.values, target.kind
        if kind in JSON_TYPES:
            kinds = {"text" if value.kind in ("date", "time") else value.kind for value in values}
            if len(kinds) > 1:
                raise wrong(
                    comparison.where, "a number and a text are compared at once", "both ends are of one kind.",
                    "write both as numbers or both as texts.",
                )  # fmt: skip
            if kinds == {"number"}:
                left = f"(CASE WHEN {self._is_of(target, 'number')} THEN {self._again(target)}::pg_catalog.numeric END)"
                return left, [self._placed(value.text, "pg_catalog.numeric") for value in values]
            left = f'{self._json_text(target)} COLLATE pg_catalog."C"'
            return left, [self._placed(value.text, "pg_catalog.text") for value in values]
        if kind.endswith("[]"):
            raise wrong(
                comparison.where, f"{target.name} is an array", "an array has no order to compare a value with.",
                "use $eq or $in: they find the rows whose array has the value, or one of the values.",
            )  # fmt: skip
        texts, cast = _typed(comparison, target, kind, values)
        if cast is None or kind == "boolean":
            raise wrong(
                comparison.where, f"{comparison.operator} cannot compare {target.name}",
                f"columns of type {kind} are compared by $eq, $ne, $in, $nin and $exists.", "use one of these.",
            )  # fmt: skip
        return target.column, [self._placed(text, _escaped(cast)) for text in texts]

    def _as_text(self, target: Target, comparison: Comparison) -> str:
        if target.kind in JSON_TYPES:
            return self._json_text(target)
        if target.kind in TEXTS or is_citext(target.kind):
            return target.column
        raise wrong(
            comparison.where, f"{target.name} is no text", f"its type is {target.kind}; patterns are those of texts.",
            "compare it with $eq, $in or an order.",
        )  # fmt: skip

    def _json_text(self, target: Target) -> str:
        """The member where it is a text, else NULL."""
        return f"(CASE WHEN {self._is_of(target, 'string')} THEN {self._again(target)} END)"

    def _is_of(self, target: Target, json_type: str) -> str:
        path = self._path(target)
        self._last_path = path
        return f"pg_catalog.jsonb_typeof({self._json(target)} OPERATOR(pg_catalog.#>) {path}) = '{json_type}'"

    def _again(self, target: Target) -> str:
        """The member's text, by the path of the latest `_is_of`."""
        return f"({self._json(target)} OPERATOR(pg_catalog.#>>) {self._last_path})"

    # --- since and until -----------------------------------------------------------------------------------------------

    def _since_or_until(self, comparison: Comparison) -> str:
        date, value = self._table.spec.date, comparison.values[0]
        assert date is not None
        name = comparison.name
        if comparison.operator != "$eq" or comparison.members or value.kind not in ("text", "date"):
            raise wrong(
                comparison.where, f"{name} is a date and not a column", f"it stands for a range of {date}, both ends included.",
                f'write it as  {{"{name}": "2024-02"}}, or compare {date}.',
            )  # fmt: skip
        day = first_day(value.text, name=name) if name == "since" else day_after(value.text, name=name)
        if day is None:
            return "true"
        column = quoted(date)
        kind = _escaped(self._table.columns[date])
        return f"{column} {'>=' if name == 'since' else '<'} {self._placed(day.isoformat(), kind)}"


def is_range(table: CollectionTable, comparison: Comparison) -> bool:
    """Whether `since` or `until` is meant, which are no columns."""
    name = comparison.name
    return name in ("since", "until") and name not in table.columns and table.spec.date is not None


def is_citext(kind: str) -> bool:
    return kind == "citext" or kind.endswith(".citext")


def _escaped(kind: str) -> str:
    return kind.replace("%", "%%")


def _document(members: tuple[str, ...], value: str) -> str:
    """The JSON of an object that has `value` (JSON, too) at that member."""
    for name in reversed(members):
        value = f"{{{json.dumps(name, ensure_ascii=False)}:{value}}}"
    return value


def _as_json(value: Value) -> str:
    """The value as JSON; a date or a time is its ISO-8601 text there, and a number has the digits it was given in."""
    return value.text if value.kind in ("number", "boolean") else json.dumps(value.text, ensure_ascii=False)


def array_text(texts: Sequence[str]) -> str:
    """The texts as the text of a PostgreSQL array."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"


# --- values in the type of a column ----------------------------------------------------------------------------------


def _typed(comparison: Comparison, target: Target, kind: str, values: Sequence[Value]) -> tuple[list[str], str | None]:
    """The texts of the values, and the type of all of them; None for a column that is compared as text."""
    if len(values) == 1:
        text, cast = _one(comparison, target, kind, values[0])
        return [text], cast
    texts, casts = [], set()
    for value in values:
        text, cast = _one(comparison, target, kind, value)
        texts.append(text)
        casts.add(cast)
    if len(casts) == 1:
        return texts, casts.pop()
    return texts, max((cast for cast in casts if cast is not None), key=_WIDTHS.index)


def _one(comparison: Comparison, target: Target, kind: str, value: Value) -> tuple[str, str | None]:
    text = value.text
    if kind in TEXTS or is_citext(kind):
        if value.kind in ("text", "date", "time"):
            return text, kind
        raise _misfit(comparison, target, kind, value, "write it in quotes.")
    if kind in _INTEGERS:
        if value.kind != "number":
            raise _misfit(comparison, target, kind, value, "write the number without quotes.")
        whole = _whole(text)
        bound = _INTEGERS[kind]
        return (str(whole), kind) if whole is not None and -bound <= whole < bound else (text, "numeric")
    if kind in _FLOATS or kind == "numeric":
        if value.kind != "number":
            raise _misfit(comparison, target, kind, value, "write the number without quotes.")
        size = abs(float(text))
        is_small = kind == "real" and (size > _MOST_REAL or 0 < size < _LEAST_REAL)
        return text, "double precision" if is_small else kind
    if kind == "boolean":
        if value.kind != "boolean":
            raise _misfit(comparison, target, kind, value, "write true or false, without quotes.")
        return text, kind
    if kind == "uuid":
        try:
            return str(uuid.UUID(text if value.kind == "text" else "")), kind
        except ValueError:
            raise _misfit(comparison, target, kind, value, "write it as 32 hexadecimal digits.") from None
    if kind == "date" or kind in TIMES:
        return _time(comparison, target, kind, value)
    if value.kind in ("text", "number", "date", "time"):
        return text, None
    raise _misfit(comparison, target, kind, value, "compare it with a text.")


def _time(comparison: Comparison, target: Target, kind: str, value: Value) -> tuple[str, str]:
    """A date or a time in ISO-8601. A time without a zone is UTC, in the filter and in the column."""
    advice = "write it as 2024-02-07 or 2024-02-07T12:30:00Z; since and until take a year or a month, too."
    if value.kind not in ("text", "date", "time"):
        raise _misfit(comparison, target, kind, value, advice)
    try:
        if kind == "date" and len(value.text) == len("2024-02-07"):
            return dt.date.fromisoformat(value.text).isoformat(), "date"
        if not value.text[:1].isdigit():
            raise ValueError
        moment = dt.datetime.fromisoformat(value.text)
        at_utc = (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise _misfit(comparison, target, kind, value, advice) from None
    if kind == "timestamp with time zone":
        return at_utc.isoformat(), kind
    return at_utc.replace(tzinfo=None).isoformat(), "timestamp without time zone"


def _whole(text: str) -> int | None:
    """The number, if it is a whole one."""
    try:
        return int(text)
    except ValueError:
        as_double = float(text)
        return int(as_double) if as_double.is_integer() and abs(as_double) < 2**53 else None


def _misfit(comparison: Comparison, target: Target, kind: str, value: Value, next_step: str) -> QueryInvalid:
    what = "null" if value.kind == "null" else _IN_WORDS[value.kind]
    if kind in ("date", "uuid", *TIMES) and value.kind == "text":
        what = "a text that is none"
    named = f"the elements of {shown(target.name)} are" if target.kind.endswith("[]") else f"{shown(target.name)} is"
    return wrong(
        comparison.where, f"the value is {what}, and {named} of type {kind}",
        "a column is compared with values of its own type.", next_step,
    )  # fmt: skip
