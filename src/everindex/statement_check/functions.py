"""The functions in a plan: those whose bodies EXPLAIN does not show, and those that are VOLATILE.

The body of a LANGUAGE sql function is shown if PostgreSQL inlines it; every other function is planned when it runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from everindex.statement_check.connection import CallerConnection
from everindex.statement_check.plan import Plan
from everindex.statement_check.text import masked

_CALL = re.compile(r'(?:("(?:[^"]|"")+"|[\w$]+)\.)?("(?:[^"]|"")+"|[a-z_][\w$]*)\(')
_EXPRESSIONS = ("Function Call", "Output", "Filter", "Join Filter", "Sort Key", "One-Time Filter", "Group Key")

#: User-written functions; those of the server and of extensions are in C.
_WRITTEN = sql.SQL("""
    SELECT DISTINCT n.nspname::text, p.proname::text, l.lanname::text, p.provolatile::text, p.prosecdef, p.proisstrict,
           coalesce(p.proconfig, '{{}}')::text[], pg_catalog.pg_get_function_identity_arguments(p.oid), p.proretset
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = ANY({names}) AND n.nspname <> 'pg_catalog' AND l.lanname NOT IN ('internal', 'c')
    ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFunction:
    """A function in a language other than C."""

    schema: str
    name: str
    language: str
    is_volatile: bool
    is_security_definer: bool
    is_strict: bool
    settings: tuple[str, ...]
    arguments: str
    returns_set: bool

    @property
    def quoted(self) -> str:
        """The name with its argument types, as ALTER FUNCTION takes it."""
        return f"{sql.Identifier(self.schema, self.name).as_string(None)}({self.arguments})"

    @property
    def why_not_inlined(self) -> str:
        """Why the body of a function in SQL is not inlined (PostgreSQL, inline_set_returning_function)."""
        why = [
            "it is VOLATILE" if self.is_volatile else "",
            "it is SECURITY DEFINER" if self.is_security_definer else "",
            "it has a SET clause" if self.settings else "",
            "it is STRICT" if self.is_strict else "",
        ]
        return (
            " and ".join(text for text in why if text) or "it is not the only item in FROM, or has more than one SELECT"
        )


def called_in(caller: CallerConnection, plan: Plan) -> list[WrittenFunction]:
    """The functions that a plan calls."""
    texts: list[str] = []
    for node in plan.nodes:
        if "Function Name" in node.facts:
            texts.append(f'"{node.facts["Function Name"]}"(')
        for key in _EXPRESSIONS:
            value = node.facts.get(key, [])
            texts += value if isinstance(value, list) else [str(value)]
    return written(caller, texts)


def written(caller: CallerConnection, expressions: list[str]) -> list[WrittenFunction]:
    """The functions in a language other than C that the expressions call, found by name."""
    names = {_unquoted(match.group(2)) for text in expressions for match in _CALL.finditer(masked(text))}
    if not names:
        return []
    return [
        WrittenFunction(
            schema=row[0],
            name=row[1],
            language=row[2],
            is_volatile=row[3] == "v",
            is_security_definer=row[4],
            is_strict=row[5],
            settings=tuple(row[6]),
            arguments=row[7],
            returns_set=row[8],
        )
        for row in caller.rows(_WRITTEN.format(names=sql.Literal(sorted(names))))
    ]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
