"""A statement that is ready to be planned: prepared, with values for its parameters, and EXPLAIN of it under trial settings."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from everindex.errors import EverindexError, StatementNotCheckable
from everindex.index.recall.explain import PLANNED_ANEW, Settings
from everindex.statement_check import catalog
from everindex.statement_check.catalog import Extension, VectorColumn, VectorIndex, literal
from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.plan import Names, Plan
from everindex.statement_check.row_security import RowSecurity, row_security, unset_settings
from everindex.statement_check.session import SET, SETTING, assume_role, make_settings, replay
from everindex.statement_check.text import Statement, tokens
from everindex.statement_check.values import (
    VECTOR_TYPES,
    Given,
    as_literal,
    called,
    column_of,
    given_values,
    inlined,
    stored_vectors,
)

#: Makes all other plans expensive: a statement that still does not use a vector index cannot use it.
ONLY_THE_INDEX: Settings = (
    ("enable_indexscan", "on"),
    ("enable_seqscan", "off"),
    ("enable_sort", "off"),
    ("enable_bitmapscan", "off"),
)
GENERIC: Settings = (("plan_cache_mode", "force_generic_plan"),)
#: The types of the parameters of a prepared statement, in order.
_TYPES = sql.SQL(
    "SELECT t.typname::text FROM pg_catalog.pg_prepared_statements s, "
    "LATERAL unnest(s.parameter_types::oid[]) WITH ORDINALITY AS p(type, number) "
    "JOIN pg_catalog.pg_type t ON t.oid = p.type WHERE s.name = {} ORDER BY p.number"
)


@dataclass(kw_only=True)
class PreparedCheck:
    """One statement on one connection, inside a transaction that is rolled back. Only EXPLAIN of it is ever sent."""

    caller: CallerConnection
    statement: Statement
    extension: Extension
    needs_search_path: bool = False
    """True if the statement can be prepared only with the schema of pgvector in search_path."""

    prepared: str | None = None
    """None if PostgreSQL cannot determine the types of the parameters; then the text contains their values."""

    text: str = ""
    """The text to explain when the prepared name is not used."""

    values: tuple[str, ...] = ()
    """Literals of the parameters, in order."""

    samples: tuple[tuple[str, ...], ...] = ()
    """The same with other stored vectors, if a vector was taken from the table and several samples were requested."""

    columns: list[VectorColumn] = field(default_factory=list)
    indexes: list[VectorIndex] = field(default_factory=list)
    row_security: list[RowSecurity] = field(default_factory=list)

    @property
    def serving(self) -> set[Names]:
        """The vector indexes that a plan may use."""
        return {index.names for index in self.indexes if index.is_valid}

    def plan(self, settings: Settings = ()) -> Plan:
        """The plan with the values of the parameters, under settings for this call."""
        return self._explain(self._target(), (*PLANNED_ANEW, *settings))

    def generic_plan(self) -> Plan | None:
        """The plan that is made once for all values; None if there are no parameters."""
        if self.prepared is None or not self.values:
            return None
        return self._explain(self._target(), GENERIC)

    def plan_lines(self) -> list[str]:
        """The output of EXPLAIN."""
        with self._under(PLANNED_ANEW):
            return [str(row[0]) for row in self.caller.rows("EXPLAIN " + self._target())]

    def execute(self, values: tuple[str, ...], settings: Settings = ()) -> list[tuple[Any, ...]]:
        """The rows of the statement. This is the only place that executes it: to measure recall, never for a check."""
        with self._under((*PLANNED_ANEW, *settings)):
            return self.caller.rows(self._target(values))

    def try_query(self, text: str) -> Plan | None:
        """The plan of a query of our own with everything but an index made expensive; None if PostgreSQL rejects it."""
        try:
            return self._explain(text, ONLY_THE_INDEX)
        except Refused:
            return None

    def setting(self, name: str) -> str | None:
        """A setting in the application's session; None if it does not exist."""
        found = self.caller.rows(SETTING.format(sql.Literal(name)))[0][0]
        return None if found is None else str(found)

    def source_of(self, name: str) -> str:
        """The source of a setting: `database`, `user`, `session`, `configuration file`."""
        found = self.caller.rows(
            sql.SQL("SELECT source FROM pg_catalog.pg_settings WHERE name = {}").format(sql.Literal(name))
        )
        return str(found[0][0]) if found else "unknown"

    def _target(self, values: tuple[str, ...] | None = None) -> str:
        if self.prepared is None or not self.values:
            # Without parameters a prepared statement keeps its first plan, regardless of later settings.
            return self.text
        literals = ", ".join(self.values if values is None else values)
        return f"EXECUTE {self.prepared}({literals})"

    def _explain(self, text: str, settings: Settings) -> Plan:
        with self._under(settings):
            document: Any = self.caller.rows("EXPLAIN (FORMAT JSON, VERBOSE) " + text)[0][0]
        if isinstance(document, (str, bytes)):
            document = json.loads(document)
        return Plan(root=document[0]["Plan"])

    @contextmanager
    def _under(self, settings: Settings) -> Iterator[None]:
        with self.caller.attempt():
            for name, value in settings:
                self.caller.rows(SET.format(sql.Literal(name), sql.Literal(value)))
            yield


@contextmanager
def prepared(
    caller: CallerConnection,
    statement: Statement,
    parameters: Given,
    *,
    settings: Mapping[str, Any],
    role: str | None = None,
    samples: int = 1,
) -> Iterator[PreparedCheck]:
    """The statement, prepared, with a value for each of its parameters, in its session. The connection is left as it was.

    Raises StatementNotCheckable when the statement is not a SELECT, is rejected by PostgreSQL, or has a parameter other than a
    vector without a value.
    """
    refuse_what_is_no_select(statement)
    prepared = f"everindex_{secrets.token_hex(6)}"
    with caller.rolled_back():
        try:
            found = PreparedCheck(caller=caller, statement=statement, extension=catalog.extension(caller))
            timeout = caller.rows(SETTING.format(sql.Literal("statement_timeout")))[0][0]
            if role is not None:
                assume_role(caller, role)
            make_settings(caller, settings)
            replay(caller, statement, parameters)
            # The application's statement timeout must not apply to our queries about the statement.
            caller.rows(SET.format(sql.Literal("statement_timeout"), sql.Literal(timeout)))
            # The meaning of the text must not depend on a setting that interprets backslashes differently from the splitter.
            caller.rows(SET.format(sql.Literal("standard_conforming_strings"), sql.Literal("on")))
            try:
                _prepare(found, prepared, given_values(statement, parameters), samples)
                _look(found)
                yield found
            finally:
                if found.prepared is not None:
                    caller.rows(f"DEALLOCATE {prepared}")
        except Refused as exc:
            raise _policy_error(caller, exc, statement) or error_of(exc, statement) from exc.error


def refuse_what_is_no_select(statement: Statement) -> None:
    """Raises StatementNotCheckable for a statement that does not begin like a query, and for SELECT INTO."""
    if any(token.kind == "word" and token.text.lower() == "into" for token in tokens(statement.numbered)):
        raise StatementNotCheckable(
            f"{called(statement)} writes.",
            why="it has an INTO: SELECT … INTO creates a table, INSERT INTO fills one.",
            next_step="check only the SELECT. Nothing was executed.",
        )
    first = statement.numbered.lstrip("( \t\r\n").split(None, 1)
    word = first[0].lower() if first else ""
    if not word.startswith(("select", "with", "table", "values")):
        raise StatementNotCheckable(
            f"{called(statement)} is not a SELECT.",
            why=f"it begins with {word.upper()[:30]!r}; only reading statements are checked, and none is ever executed.",
            next_step="pass the SELECT that searches; for an INSERT … SELECT, only the SELECT.",
        )


def _prepare(found: PreparedCheck, name: str, given: dict[int, Any], samples: int) -> None:
    statement = found.statement
    # A tuple cannot be one parameter: it represents the list after IN, as psycopg2 writes it.
    lists = {
        n: as_literal(v, type_name="", what=statement.parameters[n - 1])
        for n, v in given.items()
        if isinstance(v, tuple)
    }
    text = inlined(statement, lists)
    try:
        with found.caller.attempt():
            found.caller.rows(f"PREPARE {name} AS {text}")
    except Refused as exc:
        if exc.state in ("42P18", "42P08", "42601", "42804") and given and len(given) == len(statement.parameters):
            found.text = inlined(
                statement,
                {n: as_literal(v, type_name=_shape_of(v), what=statement.parameters[n - 1]) for n, v in given.items()},
            )
            refuse_writing(found, found._explain(found.text, ()))
            return
        if exc.state not in ("42883", "42704") or _is_in_search_path(found):
            raise
        # Tried once more with pgvector's operators in the search_path; that they are missing becomes the reason.
        path = f"{found.setting('search_path')}, {catalog.quoted(found.extension.schema)}"
        found.caller.rows(SET.format(sql.Literal("search_path"), sql.Literal(path.lstrip(", "))))
        with found.caller.attempt():
            found.caller.rows(f"PREPARE {name} AS {text}")
        found.needs_search_path = True
    found.prepared, found.text = name, text
    types = [row[0] for row in found.caller.rows(_TYPES.format(sql.Literal(name)))]
    found.values = ("NULL",) * len(types)
    # Without values every partition remains; NULL values would prune all of them.
    generic = found._explain(found._target(), (*GENERIC, ("enable_partition_pruning", "off")))
    refuse_writing(found, generic)
    columns = catalog.vector_columns(found.caller, generic.relations.values())
    choices = [_choices(found, number, kind, given, generic, columns, samples) for number, kind in enumerate(types, 1)]
    found.values = tuple(choice[0] for choice in choices)
    several = max((len(choice) for choice in choices), default=1)
    if several > 1:
        found.samples = tuple(tuple(choice[turn % len(choice)] for choice in choices) for turn in range(several))


def _choices(
    found: PreparedCheck,
    number: int,
    type_name: str,
    given: dict[int, Any],
    generic: Plan,
    columns: list[VectorColumn],
    samples: int,
) -> list[str]:
    """The literals for one parameter: its value, or vectors from the table."""
    name = found.statement.parameters[number - 1]
    if number in given:
        value = given[number]
        return ["NULL" if isinstance(value, tuple) else as_literal(value, type_name=type_name, what=name)]
    column = column_of(number, type_name, generic, columns) if type_name in VECTOR_TYPES else None
    if column is None and type_name in VECTOR_TYPES and not generic.relations:
        return ["NULL"]  # nothing is read, so the plan does not depend on it
    if column is None:
        missing = [f"{name} ({kind})" for name, kind in _missing(found, given)]
        raise StatementNotCheckable(
            f"{called(found.statement)} has parameters without a value: {', '.join(missing) or name}.",
            why="the plan depends on their values; only a vector can be taken from the table instead.",
            next_step="give each of them a value that the application would use: --param NAME=VALUE, or params=… in Python.",
        )
    return [literal(text) for text in stored_vectors(found.caller, column, type_name=type_name, count=samples)]


def _missing(found: PreparedCheck, given: dict[int, Any]) -> list[tuple[str, str]]:
    types = [row[0] for row in found.caller.rows(_TYPES.format(sql.Literal(found.prepared)))]
    return [
        (found.statement.parameters[number - 1], str(kind))
        for number, kind in enumerate(types, start=1)
        if number not in given and kind not in VECTOR_TYPES
    ]


def _look(found: PreparedCheck) -> None:
    tables = set(found.plan().relations.values())
    found.columns = catalog.vector_columns(found.caller, tables)
    found.indexes = catalog.vector_indexes(found.caller, tables)
    found.row_security = row_security(found.caller, tables)


def refuse_writing(found: PreparedCheck, plan: Plan) -> None:
    """Raises StatementNotCheckable for a plan that writes."""
    if plan.writes:
        raise StatementNotCheckable(
            f"{called(found.statement)} writes.",
            why="its plan has a ModifyTable: a WITH or the statement itself inserts, updates or deletes.",
            next_step="check only the part that searches. Nothing was executed.",
        )


def _is_in_search_path(found: PreparedCheck) -> bool:
    schema = sql.Literal(found.extension.schema)
    return bool(found.caller.rows(sql.SQL("SELECT {} = ANY(current_schemas(true)::text[])").format(schema))[0][0])


def _shape_of(value: Any) -> str:
    """The type for the literal of an inlined parameter: a list of numbers is meant as a vector."""
    is_vector = hasattr(value, "to_text") or getattr(value, "ndim", 0) == 1
    return "vector" if is_vector or (isinstance(value, list) and all(isinstance(part, float) for part in value)) else ""


def _policy_error(caller: CallerConnection, exc: Refused, statement: Statement) -> StatementNotCheckable | None:
    """The error for a policy that reads an unset setting: it fails during planning, and PostgreSQL does not name the policy."""
    if exc.state[:2] not in ("42", "22") or exc.state == "42501":
        return None
    try:
        unset = unset_settings(caller)
    except Refused:
        return None  # the failure has ended the transaction
    # The message names an unknown setting; for other errors only policies of the tables in the statement can be the cause.
    named = {token.text.strip('"').lower() for token in tokens(statement.numbered)}
    for security, name in unset:
        if f'"{name}"' in exc.text or (exc.state[:2] == "22" and security.table[1].lower() in named):
            return StatementNotCheckable(
                f"{called(statement)} fails for role {security.role}.",
                why=f"{security.words} reads the setting {name}, which is not set: {exc.text} (SQLSTATE {exc.state}).",
                next_step=f"set it as the application does: --set {name}=VALUE, SET {name} = … before the statement, or "
                "settings={…} in Python.",
            )
    return None


def error_of(exc: Refused, statement: Statement) -> EverindexError:
    if exc.state[:2] in ("08", "57", "53", "") or exc.state in ("42501", "55P03", "40P01"):
        return exc.as_ours(doing=f"getting the plan of {called(statement)}")
    return StatementNotCheckable(
        f"PostgreSQL rejects {called(statement)}.",
        why=f"{exc.text} (SQLSTATE {exc.state}).",
        next_step="correct the statement, or connect to the database and as the role that the application uses.",
    )
