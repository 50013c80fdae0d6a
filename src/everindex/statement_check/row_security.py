"""Row security of a statement's tables: the policies that apply to its role, and how many rows pass them.

A policy is a condition that PostgreSQL adds to the statement: a vector index returns its rows first, and the policy then removes
some of them. It does not apply to superusers, to roles with BYPASSRLS, and to the owner of a table that does not force it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from everindex.statement_check.connection import CallerConnection, Refused
from everindex.statement_check.plan import Names

#: Counting the rows that pass reads the table; if it takes longer than this, the planner's estimate is used.
COUNT_MS = 3000
_READS = re.compile(r"current_setting\('((?:[^']|'')+)'")

_POLICIES = """
    SELECT n.nspname::text, c.relname::text, pg_catalog.row_security_active(c.oid), current_user::text,
           (SELECT CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolbypassrls THEN 'has BYPASSRLS'
                        ELSE 'owns it, and it is not forced' END
            FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
           ARRAY(SELECT p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND {applies} ORDER BY 1),
           ARRAY(SELECT coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '') FROM pg_catalog.pg_policy p
                 WHERE p.polrelid = c.oid AND {applies} ORDER BY p.polname)
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity AND {these} ORDER BY 1, 2
"""
_APPLIES = """p.polcmd IN ('r', '*') AND (NOT pg_catalog.row_security_active(c.oid) OR 0 = ANY(p.polroles) OR EXISTS (
    SELECT FROM pg_catalog.unnest(p.polroles) AS granted(role) WHERE role <> 0 AND pg_catalog.pg_has_role(role, 'USAGE')))"""
#: A policy of a partitioned table applies to reads through that table, whatever policies its partitions have.
_SCANNED = """c.oid IN (
    SELECT coalesce(above.relid, s.oid) FROM pg_catalog.pg_class s
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
    LEFT JOIN LATERAL pg_catalog.pg_partition_ancestors(s.oid) AS above(relid) ON true
    WHERE (sn.nspname, s.relname) IN ({tables}))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSecurity:
    """The policies of one table for reading, for the current role."""

    table: Names
    applies: bool
    role: str
    exempt_by: str
    """Why it does not apply to the role, if it does not."""

    policies: tuple[str, ...]
    settings: tuple[str, ...]
    """The settings that the policies read by current_setting()."""

    @property
    def words(self) -> str:
        return f"row security of {self.table[1]} (policy {', '.join(self.policies) or 'none: no row passes'})"

    @property
    def as_role(self) -> str:
        """The options for a check as the application's role."""
        return " ".join(["--role ROLE", *(f"--set {name}=VALUE" for name in self.settings)])


def row_security(caller: CallerConnection, tables: Iterable[Names]) -> list[RowSecurity]:
    """The row security of these tables and of their partitioned parents; tables without it are left out."""
    pairs = [sql.SQL("({}, {})").format(sql.Literal(schema), sql.Literal(name)) for schema, name in tables]
    if not pairs:
        return []
    return _policies(caller, sql.SQL(_SCANNED).format(tables=sql.SQL(", ").join(pairs)))


def unset_settings(caller: CallerConnection) -> list[tuple[RowSecurity, str]]:
    """The settings that a policy for this role reads and that are unset or empty; a policy that fails because of that does not
    name them."""
    found = _policies(caller, sql.SQL("pg_catalog.row_security_active(c.oid)"))
    return [
        (security, name)
        for security in found
        for name in security.settings
        if not caller.rows(sql.SQL("SELECT pg_catalog.current_setting({}, true)").format(sql.Literal(name)))[0][0]
    ]


def passing_rows(caller: CallerConnection, names: Names, *, partitions: Sequence[Names] = ()) -> int | None:
    """How many rows of the table, or of some of its partitions, the role sees; None if counting fails or takes too long.

    Reads through the table's own name, since a partition that is read by its own name has other policies.
    """
    count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*names))
    if partitions:
        of_these = sql.SQL(", ").join(
            sql.SQL("{}::pg_catalog.regclass").format(sql.Literal(sql.Identifier(*one).as_string(None)))
            for one in partitions
        )
        count += sql.SQL(" WHERE tableoid IN ({})").format(of_these)
    try:
        with caller.attempt():
            caller.rows(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(COUNT_MS)))
            return int(caller.rows(count)[0][0])
    except Refused:
        return None


def _policies(caller: CallerConnection, these: sql.Composable) -> list[RowSecurity]:
    found = caller.rows(sql.SQL(_POLICIES).format(applies=sql.SQL(_APPLIES), these=these))
    return [
        RowSecurity(
            table=(row[0], row[1]),
            applies=row[2],
            role=row[3],
            exempt_by=row[4],
            policies=tuple(row[5]),
            settings=tuple(dict.fromkeys(name.replace("''", "'") for text in row[6] for name in _READS.findall(text))),
        )
        for row in found
    ]
