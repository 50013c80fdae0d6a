"""The targets of a fleet: databases, schemas of databases, and tables with a column of tenants; read from text or a query.

One that cannot be used is a target with its problem, so that it does not keep the others from being worked on. No message
holds any part of an address.
"""

from __future__ import annotations

import csv
import io
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from everindex.errors import EverindexError, SettingInvalid, TargetsInvalid
from everindex.pg.address import describe, without_driver
from everindex.pg.address_text import checked
from everindex.pg.connections import connect
from everindex.pg.sqlstate import translate_errors

#: What a target may be described by.
COLUMNS = ("name", "url", "database", "schema", "table", "tenant_column", "canary")
PAGE = "docs/fleet.md"
_VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")
_YES, _NO = ("true", "yes", "1", "t"), ("false", "no", "0", "f", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One database, or one schema of it; with `tenant_column`, also the tenants of one of its tables."""

    name: str
    conninfo: str = field(default="", repr=False)
    schema: str | None = None
    """The schema of its tables; None for what the role's search_path finds."""

    table: str | None = None
    """The collection whose tenants are told apart by `tenant_column`; the articles by default."""

    tenant_column: str | None = None
    is_canary: bool = False
    problem: EverindexError | None = None
    """Why its address cannot be used."""

    @property
    def where(self) -> str:
        """The database, host and role, without any secret."""
        return "an unusable address" if self.problem is not None else describe(self.conninfo)

    def in_schema(self, extension_schema: str | None) -> str:
        """The address whose sessions find the target's schema first, then the types of pgvector."""
        if self.schema is None:
            return self.conninfo
        written = search_path(self.schema, extension_schema).replace("\\", "\\\\").replace(" ", "\\ ")
        before = conninfo_to_dict(self.conninfo).get("options")
        return make_conninfo(self.conninfo, options=f"{f'{before} ' if before else ''}-c search_path={written}")


def search_path(schema: str, extension_schema: str | None) -> str:
    """The value of the setting that finds `schema` first, then the types of pgvector."""
    names = dict.fromkeys((schema, extension_schema or "public", "public"))
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def read_targets(text: str, *, where: str, base: str | None = None) -> tuple[Target, ...]:
    """The targets of a CSV file with a header, or of TOML with `[[target]]` tables; `base` is the address for `database`.

    Raises TargetsInvalid, naming lines and columns and never a value besides the name of a target.
    """
    return _targets(_rows(text, where), where=where, base=base)


def names_databases(text: str, *, where: str) -> bool:
    """Whether one of the targets is a database of the configured server. Raises TargetsInvalid."""
    return any(row.get("database") for _, row in _rows(text, where))


def query_targets(conninfo: str, query: str) -> tuple[Target, ...]:
    """The rows of a query on the directory database at `conninfo`, each column named as one of COLUMNS. Reads only."""
    where = "the query of the targets"
    with (
        connect(conninfo, application_name="everindex fleet") as connection,
        translate_errors("reading the targets of the fleet"),
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION READ ONLY")
        cursor = connection.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        if "name" not in names:
            raise _invalid(where, "its result has no column  name")
        found = [dict(zip(names, row, strict=True)) for row in cursor]
    return _targets(((f"row {number}", row) for number, row in enumerate(found, 1)), where=where, base=conninfo)


def _rows(text: str, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    lines = (line for line in text.lstrip("\ufeff").splitlines() if line.strip() and not line.startswith("#"))
    is_csv = "name" in {cell.strip() for cell in next(lines, "").split(",")}
    return _of_csv(text, where) if is_csv else _of_toml(text, where)


def _of_csv(text: str, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True)
    header: list[str] | None = None
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            raise _invalid(where, f"line {reader.line_num} is not CSV") from None
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            raise _invalid(where, f"line {reader.line_num} has {len(cells)} fields, and the header has {len(header)}")
        else:
            yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))


def _of_toml(text: str, where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        tables = tomllib.loads(text).get("target", [])
    except tomllib.TOMLDecodeError as exc:
        at = re.search(r"line \d+", str(exc))
        raise _invalid(
            where,
            "it is neither CSV with a header that has  name , nor TOML" + (f" ({at[0]})" if at else ""),
        ) from None
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise _invalid(where, "its targets are not  [[target]]  tables")
    for number, table in enumerate(tables, 1):
        yield f"target {number}", table


def _targets(rows: Iterable[tuple[str, Mapping[str, Any]]], *, where: str, base: str | None) -> tuple[Target, ...]:
    found: dict[str, Target] = {}
    for place, row in rows:
        target = _target(row, at=f"{where}, {place}", base=base)
        if target.name in found:
            raise _invalid(where, f"two targets are named {target.name!r}")
        found[target.name] = target
    if not found:
        raise _invalid(where, "it has no target")
    return tuple(found.values())


def _target(row: Mapping[str, Any], *, at: str, base: str | None) -> Target:
    if not set(row) <= set(COLUMNS):
        raise _invalid(at, f"it has {len(set(row) - set(COLUMNS))} unknown columns; known are {', '.join(COLUMNS)}")
    given = {name: "" if value is None else str(value).strip() for name, value in row.items()}
    name = given.get("name", "")
    if not 1 <= len(name) <= 200 or not name.isprintable() or "://" in name:
        raise _invalid(at, "its name is not 1 to 200 printable characters without ://")
    canary = given.get("canary", "").lower()
    if canary not in (*_YES, *_NO):
        raise _invalid(at, "its canary is neither true nor false")
    if bool(given.get("url")) == bool(given.get("database")):
        raise _invalid(at, "it needs either  url  or  database")
    try:
        conninfo, problem = _address(given, name=name, base=base), None
    except EverindexError as exc:
        conninfo, problem = "", exc
    return Target(
        name=name, conninfo=conninfo, schema=given.get("schema") or None, table=given.get("table") or None,
        tenant_column=given.get("tenant_column") or None, is_canary=canary in _YES, problem=problem,
    )  # fmt: skip


def _address(given: Mapping[str, str], *, name: str, base: str | None) -> str:
    if given.get("database"):
        if base is None:
            raise SettingInvalid(
                f"target {name!r} names only a database.",
                why="its server is the configured one, and none is configured.",
                next_step="set DATABASE_URL, or give the target a  url .",
            )
        return make_conninfo(base, dbname=given["database"])
    url = given["url"]
    variable = _VARIABLE.match(url)
    if variable is not None:
        key = variable[1] or variable[2]
        if not os.environ.get(key):
            raise SettingInvalid(
                f"the address of target {name!r} is not set.",
                why=f"its url names the variable {key}, which is empty or not set.",
                next_step=f"set {key}, or write the address.",
            )
        url = os.environ[key]
    return checked(without_driver(url), name=f"the url of target {name!r}")


def _invalid(where: str, why: str) -> TargetsInvalid:
    return TargetsInvalid(
        f"the targets cannot be read: {where}.",
        why=f"{why} (values are not shown here, since they may hold passwords).",
        next_step=f"correct it; {PAGE} shows the forms. No database was touched.",
    )
