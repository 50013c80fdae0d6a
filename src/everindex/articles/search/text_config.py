"""In which language are articles searched by keyword? The text search configuration that EVERINDEX_TEXT_SEARCH names."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from everindex.errors import SettingInvalid
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import told_as_ours

SETTING = "EVERINDEX_TEXT_SEARCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """A text search configuration that the server has: parser, stop words and stems of a language."""

    schema: str
    """Empty in a script, where the search_path decides."""

    name: str
    is_utf8: bool
    """Whether the database is: in no other encoding can PostgreSQL normalise a text."""

    @property
    def constant(self) -> sql.Composed:
        """As a constant of type regconfig: with one, to_tsvector is immutable, and an index may hold it."""
        name = sql.Identifier(self.schema, self.name) if self.schema else sql.Identifier(self.name)
        return sql.SQL("{}::pg_catalog.regconfig").format(sql.Literal(name.as_string(None)))


def find_config(connection: Connection, name: str) -> TextConfig:
    """The configuration of that name, as SQL would find it: with a schema, or in the search_path. Reads only.

    Raises SettingInvalid, with the names that there are.
    """
    with told_as_ours("reading the text search configurations"):
        known = connection.execute(
            """
            SELECT n.nspname, c.cfgname, pg_catalog.pg_ts_config_is_visible(c.oid),
                   pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
            FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace ORDER BY 2, 1
            """
        ).fetchall()
    schema, _, wanted = name.strip().rpartition(".")
    for given in (wanted, wanted.lower()):
        for found_schema, found, is_visible, is_utf8 in known:
            if found == given and (found_schema == schema if schema else is_visible):
                return TextConfig(schema=found_schema, name=found, is_utf8=is_utf8)
    names = ", ".join(
        found if is_visible else f"{found_schema}.{found}" for found_schema, found, is_visible, _ in known
    )
    raise SettingInvalid(
        f"{SETTING} names no text search configuration of this server: {name[:60]!r}.",
        why=f"the database has {names}.",
        next_step=f"set {SETTING} to one of them (simple knows no language), or CREATE TEXT SEARCH CONFIGURATION.",
    )
