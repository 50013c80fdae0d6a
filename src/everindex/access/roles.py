"""The database roles of least privilege, as the statements that make them: owner, migrator, app, reader, ops. Pure.

`NAME` below is the prefix, by default `everindex`:

    NAME_owner     cannot log in; owns the tables and schema everindex_meta
    NAME_migrator  migrates, deploys and keeps: acts as the owner in every session
    NAME_app       the web application: reads and writes rows, creates nothing
    NAME_reader    reads; no tokens, passwords and sessions
    NAME_ops       reads, and sees statistics and sessions (pg_monitor): status, verify, doctor

Repeating the statements changes nothing. What another application owns keeps its owner: everindex's owner becomes a member of
that role, since CREATE INDEX requires the ownership of a table (PostgreSQL, DefineIndex).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from psycopg import sql

from everindex.access.credentials import SECRET_TABLES
from everindex.errors import UsageError

META = "everindex_meta"
DEFAULT_PREFIX = "everindex"
#: Of a role's name in bytes (PostgreSQL, NAMEDATALEN), without the longest suffix.
MAX_PREFIX_BYTES = 63 - len("_migrator")
#: Tables of the own schema that the web application only reads.
ONLY_READ = ("schema_version",)
#: What the web application may do with the tables of secrets: check a token, hash a password anew, sign somebody in and out.
OF_SECRETS = {
    "access_token": "SELECT, UPDATE (used_at)",
    "access_user": "SELECT, UPDATE (password_hash)",
    "access_session": "SELECT, INSERT, DELETE",
}
APP_STATEMENT_TIMEOUT, IDLE_TIMEOUT = "15s", "60s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that everindex uses."""

    schema: str
    name: str
    owner: str
    is_ours: bool
    """Whether it becomes the owner role's; another application's table keeps its owner."""

    is_written: bool = True
    """Whether the web application writes rows of it."""

    sequences: tuple[tuple[str, str], ...] = ()
    """(schema, name) of the sequences that its columns take values from."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What of a database the roles depend on."""

    database: str
    is_attached: bool
    tables: tuple[Table, ...]
    """Of the articles and the collections; alembic_version among them."""

    own_tables: tuple[Table, ...]
    """Those of schema everindex_meta."""

    schema: str
    """Where the articles are, or would be."""

    extension_schema: str | None
    superusers: frozenset[str] = field(default_factory=frozenset)
    meta_owner: str | None = None
    """None: schema everindex_meta does not exist yet."""

    @property
    def search_path(self) -> tuple[str, ...]:
        """Fixed for every role: the schemas that everindex uses, without "$user"."""
        used = (self.schema, *(table.schema for table in self.tables), self.extension_schema or self.schema)
        return tuple(dict.fromkeys(used))

    @property
    def other_owners(self) -> tuple[str, ...]:
        """The roles that own other applications' tables."""
        return tuple(dict.fromkeys(table.owner for table in self.tables if not table.is_ours))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleNames:
    """The names of the five roles."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if (
            not 1 <= len(self.prefix.encode()) <= MAX_PREFIX_BYTES
            or "\0" in self.prefix
            or self.prefix.startswith("pg_")
        ):
            raise UsageError(
                f"{self.prefix[:40]!r} cannot be the prefix of the roles.",
                why=f"a name of a role has at most 63 bytes and does not begin with pg_; the prefix has 1 to {MAX_PREFIX_BYTES}.",
                next_step="choose a shorter word, such as  everindex .",
            )

    @property
    def owner(self) -> str:
        return f"{self.prefix}_owner"

    @property
    def migrator(self) -> str:
        return f"{self.prefix}_migrator"

    @property
    def app(self) -> str:
        return f"{self.prefix}_app"

    @property
    def reader(self) -> str:
        return f"{self.prefix}_reader"

    @property
    def ops(self) -> str:
        return f"{self.prefix}_ops"

    @property
    def login(self) -> tuple[str, ...]:
        """Those that log in."""
        return (self.migrator, self.app, self.reader, self.ops)

    @property
    def every(self) -> tuple[str, ...]:
        return (self.owner, *self.login)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Statements that belong together, with what they are for."""

    about: str
    statements: tuple[sql.Composed, ...]


def role_statements(observed: Observed, names: RoleNames) -> tuple[Group, ...]:
    """The statements in their order, for a superuser of the database. They contain no password."""
    groups = (
        ("the roles", _roles(names)),
        ("who acts as whom", _memberships(observed, names)),
        ("the database and its schemas", _schemas(observed, names)),
        ("the owner of the tables", _owners(observed, names)),
        ("what the web application may do", _for_app(observed, names)),
        ("what readers and operators may see", _for_readers(observed, names)),
        ("tables that are made later", _later(observed, names)),
        ("the settings of sessions", _settings(observed, names)),
    )
    return tuple(Group(about=about, statements=made) for about, found in groups if (made := tuple(found)))


def _of(text: str, *names: str, **more: sql.Composable) -> sql.Composed:
    """A statement with its identifiers quoted. `text` is a constant of this module."""
    return sql.SQL(text).format(*map(sql.Identifier, names), **more)


def _roles(names: RoleNames) -> Iterator[sql.Composed]:
    for name in names.every:
        kind = "NOLOGIN" if name == names.owner else "LOGIN"
        create = _of(f"CREATE ROLE {{}} {kind}", name).as_string(None)
        yield sql.SQL(
            "DO {body}"
        ).format(body=sql.Literal(_unless_exists(name, create)))  # fmt: skip


def _unless_exists(name: str, create: str) -> str:
    wanted = sql.Literal(name).as_string(None)
    return f"BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {wanted}) THEN {create}; END IF; END"


def _memberships(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    yield _of("GRANT {} TO {}", names.owner, names.migrator)
    yield _of("GRANT pg_monitor TO {}", names.ops)
    for owner in observed.other_owners:
        if owner not in observed.superusers and owner != names.owner:
            yield _of("GRANT {} TO {}", owner, names.owner)


def _schemas(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    yield _of("GRANT CREATE, TEMPORARY ON DATABASE {} TO {}", observed.database, names.owner)
    yield _of("GRANT CONNECT ON DATABASE {} TO {}, {}, {}, {}", observed.database, *names.login)
    if not observed.is_attached:
        yield _of("REVOKE CREATE ON SCHEMA {} FROM PUBLIC", observed.schema)
    if observed.meta_owner is None:
        yield _of("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", META, names.owner)
    elif observed.meta_owner != names.owner:
        yield _of("ALTER SCHEMA {} OWNER TO {}", META, names.owner)
    yield _of("GRANT USAGE ON SCHEMA {} TO {}, {}, {}", META, names.app, names.reader, names.ops)
    for schema in observed.search_path:
        if schema == observed.extension_schema and schema not in (
            observed.schema,
            *(t.schema for t in observed.tables),
        ):
            yield _of(
                "GRANT USAGE ON SCHEMA {} TO {}, {}, {}, {}", schema, names.owner, names.app, names.reader, names.ops
            )
            continue
        yield _of("GRANT USAGE, CREATE ON SCHEMA {} TO {}", schema, names.owner)
        yield _of("GRANT USAGE ON SCHEMA {} TO {}, {}, {}", schema, names.app, names.reader, names.ops)


def _owners(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    for table in (*observed.tables, *observed.own_tables):
        if table.is_ours and table.owner != names.owner:
            yield _of("ALTER TABLE {table} OWNER TO {}", names.owner, table=table.identifier)


def _for_app(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    for table in (*observed.tables, *observed.own_tables):
        rights = "SELECT, INSERT, UPDATE, DELETE" if table.is_written else "SELECT"
        if table.schema == META and table.name in OF_SECRETS:
            yield _of("REVOKE ALL ON TABLE {table} FROM {}", names.app, table=table.identifier)
            rights = OF_SECRETS[table.name]
        yield _of(f"GRANT {rights} ON TABLE {{table}} TO {{}}", names.app, table=table.identifier)
        for sequence in table.sequences:
            yield _of("GRANT USAGE ON SEQUENCE {sequence} TO {}", names.app, sequence=sql.Identifier(*sequence))


def _for_readers(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    for table in (*observed.tables, *observed.own_tables):
        if table.schema == META and table.name in SECRET_TABLES:
            yield _of("REVOKE ALL ON TABLE {table} FROM {}, {}", names.reader, names.ops, table=table.identifier)
        else:
            yield _of("GRANT SELECT ON TABLE {table} TO {}, {}", names.reader, names.ops, table=table.identifier)


def _later(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    """In everindex_meta readers get no table by default: one that is made later may hold secrets."""
    by_owner = "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT "
    for schema in (META, observed.schema):
        yield _of(by_owner + "SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}", names.owner, schema, names.app)
        yield _of(by_owner + "USAGE ON SEQUENCES TO {}", names.owner, schema, names.app)
    yield _of(by_owner + "SELECT ON TABLES TO {}, {}", names.owner, observed.schema, names.reader, names.ops)


def _settings(observed: Observed, names: RoleNames) -> Iterator[sql.Composed]:
    path = sql.SQL(", ").join(map(sql.Identifier, observed.search_path))
    within = "ALTER ROLE {} IN DATABASE {} SET "
    for name in names.login:
        yield _of(within + "search_path = {path}", name, observed.database, path=path)
    yield _of(within + "role = {owner}", names.migrator, observed.database, owner=sql.Literal(names.owner))
    for name in (names.app, names.reader):
        yield _of(f"{within}statement_timeout = '{APP_STATEMENT_TIMEOUT}'", name, observed.database)
        yield _of(f"{within}idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'", name, observed.database)
    yield _of(within + "default_transaction_read_only = on", names.reader, observed.database)


def script(groups: tuple[Group, ...], observed: Observed, names: RoleNames) -> str:
    """The statements as a script for psql, which stops at the first error."""
    lines = [
        f"-- The roles of everindex in this database. Run it as a superuser:  psql -d {observed.database!r} -f FILE",
        r"\set ON_ERROR_STOP on",
        "BEGIN;",
        "SET LOCAL lock_timeout = '10s';",
    ]
    for group in groups:
        lines += ["", f"-- {group.about}", *(f"{statement.as_string(None)};" for statement in group.statements)]
    lines += ["", "COMMIT;", "", "-- Passwords are not part of a script; psql asks for them:"]
    lines += [rf"--   \password {sql.Identifier(name).as_string(None)}" for name in names.login]
    return "\n".join(lines) + "\n"
