"""A table with a column of each kind, its rows in Python, and what a filter must pass, decided without PostgreSQL."""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import psycopg

from everindex.articles.shape.spec import CollectionSpec

SPEC = CollectionSpec(
    name="things", table="things", key="id", text=("label",), vector="embedding", metadata=("year", "meta")
)
CREATE = """
    CREATE TYPE mood AS ENUM ('calm', 'loud');
    CREATE TABLE things (
        id integer PRIMARY KEY, label text, code varchar(10), year integer, small smallint, big bigint, price numeric(12, 2),
        score double precision, ratio real, done boolean, day date, seen timestamptz, made timestamp, token uuid, mood mood,
        tags text[], sizes integer[], days date[], meta jsonb, extra json, "odd ""name"" 100%" text, "a.b" text,
        embedding vector(3)
    )
"""
WORDS = (
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "100%",
    "a_b",
    "back\\slash",
    'quo"te',
    "it's",
    "{curly}",
    "",
    "$where",
)
MOMENTS = tuple(dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=7 * n) for n in range(12))
TOKENS = tuple(uuid.UUID(int=n) for n in range(4))
NUMBERS = (-3, 0, 1, 2, 5, 2**31 - 1)
JSON_VALUES: tuple[Any, ...] = (
    "amber", "birch", "5", "true", 5, 1, 1.0, 2.5, 0, True, False, None, ["amber", 5], [True], [], ["birch"], {"c": 1},
    [["amber"]],
)  # fmt: skip


def made_rows(count: int, *, seed: int = 5) -> list[dict[str, Any]]:
    """Rows of which about a fifth of the values is missing."""
    dice = random.Random(seed)

    def maybe(choose: Any) -> Any:
        return None if dice.random() < 0.2 else choose()

    def meta() -> Any:
        if dice.random() < 0.1:
            return dice.choice(["amber", [1, "amber"], 5])
        found: dict[str, Any] = {}
        if dice.random() < 0.8:
            found["a"] = dice.choice(JSON_VALUES)
        if dice.random() < 0.8:
            found["b"] = dice.choice([{"c": dice.choice(JSON_VALUES), "x.y": dice.choice(WORDS)}, "amber", None])
        return found

    return [
        {
            "id": number,
            "label": maybe(lambda: dice.choice(WORDS)),
            "code": maybe(lambda: dice.choice(WORDS)),
            "year": maybe(lambda: dice.choice(NUMBERS)),
            "small": maybe(lambda: dice.choice(NUMBERS[:5])),
            "big": maybe(lambda: dice.choice((*NUMBERS, 2**62))),
            "price": maybe(lambda: Decimal(dice.randrange(-200, 600)) / 100),
            "score": maybe(lambda: dice.choice((0.1, -1.5, 2.5, 1e300))),
            "ratio": maybe(lambda: dice.choice((0.25, 0.5, 3.0))),
            "done": maybe(lambda: dice.random() < 0.5),
            "day": maybe(lambda: dice.choice(MOMENTS).date()),
            "seen": maybe(lambda: dice.choice(MOMENTS)),
            "made": maybe(lambda: dice.choice(MOMENTS).replace(tzinfo=None)),
            "token": maybe(lambda: dice.choice(TOKENS)),
            "mood": maybe(lambda: dice.choice(("calm", "loud"))),
            "tags": maybe(lambda: dice.sample(WORDS, dice.randrange(4))),
            "sizes": maybe(lambda: dice.sample(NUMBERS, dice.randrange(4))),
            "days": maybe(lambda: [moment.date() for moment in dice.sample(MOMENTS, dice.randrange(3))]),
            "meta": maybe(meta),
            "extra": maybe(meta),
            'odd "name" 100%': maybe(lambda: dice.choice(WORDS)),
            "a.b": maybe(lambda: dice.choice(WORDS)),
        }
        for number in range(count)
    ]


def store(connection: psycopg.Connection, rows: list[dict[str, Any]]) -> None:
    """Creates the table with these rows, each with a vector of its own."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute(CREATE)
    columns = ", ".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in rows[0])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO things ({columns}, embedding) VALUES ({', '.join(['%s'] * len(rows[0]))}, %s::vector)",
            [
                [
                    *(
                        None if value is None else json.dumps(value) if name in ("meta", "extra")
                        else str(value) if name == "token" else value
                        for name, value in row.items()
                    ),
                    f"[{row['id'] + 1},1,{row['id'] % 7}]",
                ]
                for row in rows
            ],
        )  # fmt: skip
    connection.execute("ANALYZE things")


def passes(row: dict[str, Any], filters: Mapping[str, Any]) -> bool:
    """Whether the row passes: all of the mapping holds."""
    for key, value in filters.items():
        match key:
            case "$and":
                holds = all(passes(row, each) for each in value)
            case "$or":
                holds = any(passes(row, each) for each in value)
            case "$not":
                holds = not passes(row, value)
            case _:
                holds = _said(*_found(row, key), value)
        if not holds:
            return False
    return True


def _found(row: dict[str, Any], name: str) -> tuple[Any, bool]:
    """The value, and whether it is one of JSON."""
    if name in row:
        return row[name], name in ("meta", "extra")
    column, *members = name.split(".")
    value = row[column]
    for member in members:
        value = value.get(member) if isinstance(value, dict) else None
    return value, True


def _said(value: Any, is_json: bool, said: Any) -> bool:
    if not isinstance(said, Mapping):
        return _compares(value, is_json, "$eq", said)
    if not any(key.startswith("$") for key in said):
        inner = value if isinstance(value, dict) else {}
        return all(_said(inner.get(member), True, below) for member, below in said.items())
    return all(
        not _said(value, is_json, below) if operator == "$not" else _compares(value, is_json, operator, below)
        for operator, below in said.items()
    )


def _compares(value: Any, is_json: bool, operator: str, wanted: Any) -> bool:
    match operator:
        case "$exists":
            return (value is not None) == wanted
        case "$eq":
            return _is(value, wanted)
        case "$ne":
            return not _is(value, wanted)
        case "$in":
            return any(_is(value, each) for each in wanted)
        case "$nin":
            return not any(_is(value, each) for each in wanted)
        case "$like" | "$ilike":
            return isinstance(value, str) and _like(value, wanted, ignores_case=operator == "$ilike")
        case "$between":
            return _compares(value, is_json, "$gte", wanted[0]) and _compares(value, is_json, "$lte", wanted[1])
        case _:
            if value is None or (is_json and not _same_kind(value, wanted)):
                return False
            left, right = _orderable(value, wanted)
            return {"$gt": left > right, "$gte": left >= right, "$lt": left < right, "$lte": left <= right}[operator]


def _is(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return value is None
    if isinstance(value, list):
        return any(not isinstance(each, list) and _is(each, wanted) for each in value if each is not None)
    return (
        value is not None and _same_kind(value, wanted) and _orderable(value, wanted)[0] == _orderable(value, wanted)[1]
    )


def _same_kind(value: Any, wanted: Any) -> bool:
    def kind(each: Any) -> str:
        if isinstance(each, bool):
            return "boolean"
        if isinstance(each, (int, float, Decimal)):
            return "number"
        return "container" if isinstance(each, (dict, list)) else "other"

    return kind(value) == kind(wanted)


def _orderable(value: Any, wanted: Any) -> tuple[Any, Any]:
    """Both in types that Python compares."""
    if isinstance(value, uuid.UUID):
        return value, uuid.UUID(str(wanted))
    if isinstance(value, (dt.date, dt.datetime)):
        return _moment(value), _moment(wanted)
    if isinstance(value, Decimal) and isinstance(wanted, float):
        return value, Decimal(repr(wanted))
    return value, wanted


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)


def _like(text: str, pattern: str, *, ignores_case: bool) -> bool:
    parts = re.findall(r"\\(.)|([%_])|([^%_\\])", pattern, re.DOTALL)
    regex = "".join(
        re.escape(escaped or plain) if escaped or plain else {"%": ".*", "_": "."}[wild]
        for escaped, wild, plain in parts
    )
    return re.fullmatch(regex, text, re.DOTALL | (re.IGNORECASE if ignores_case else 0)) is not None
