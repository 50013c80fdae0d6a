"""What the tests of the Alembic kit share: an application with its own migrations, and ways of running it."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alembic
import psycopg
from alembic import command
from alembic.config import Config
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, MetaData

#: Each `begin` is the part of an env.py that decides about transactions.
ENV = """
from alembic import context
from everindex.alembic_kit.env import register, require_single_head
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

register()
given = context.config.attributes
require_single_head(context.config)
options = dict(target_metadata=given["metadata"], **given["options"])
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(given["url"], poolclass=NullPool, **given["engine_options"])
    {begin}
"""

PLAIN = """
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
"""
BEGUN = """
    with engine.begin() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
"""
LOCKED = """
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(7)"))
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
        connection.execute(text("SELECT pg_advisory_unlock(7)"))
        connection.commit()
"""
BARE = """
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        context.run_migrations()
        connection.commit()
"""
ASYNC = """
    import asyncio
    from sqlalchemy.ext.asyncio import create_async_engine

    def run(connection):
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()

    async def main():
        engine = create_async_engine(given["url"], poolclass=NullPool)
        async with engine.connect() as connection:
            await connection.run_sync(run)
        await engine.dispose()

    asyncio.run(main())
"""

#: name → (how env.py begins, options of context.configure, options of the engine)
OWN_TRANSACTION: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a transaction for each revision": (PLAIN, {"transaction_per_migration": True}, {}),
    "one transaction for all": (PLAIN, {}, {}),
    "no transactional DDL": (PLAIN, {"transactional_ddl": False}, {}),
    "an AUTOCOMMIT engine": (PLAIN, {}, {"isolation_level": "AUTOCOMMIT"}),
    "REPEATABLE READ": (PLAIN, {"transaction_per_migration": True}, {"isolation_level": "REPEATABLE READ"}),
    "async with run_sync": (ASYNC, {"transaction_per_migration": True}, {}),
}
FOREIGN_TRANSACTION: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "begun by env.py": (BEGUN, {}, {}),
    "begun by a lock of env.py": (LOCKED, {"transaction_per_migration": True}, {}),
    "without begin_transaction": (BARE, {}, {}),
}
EVERY = OWN_TRANSACTION | FOREIGN_TRANSACTION

REVISION = """
from alembic import op

revision = {revision!r}
down_revision = {down!r}

def upgrade():
    {upgrade}

def downgrade():
    {downgrade}
"""


def url_of(conninfo: str, driver: str = "postgresql+psycopg") -> URL:
    parts = conninfo_to_dict(conninfo)
    query = {name: str(value) for name, value in parts.items() if name in ("host", "port")}
    return URL.create(
        driver,
        username=str(parts["user"]) if parts.get("user") else None,
        password=str(parts["password"]) if parts.get("password") else None,
        database=str(parts["dbname"]),
        query=query,
    )


class Application:
    """An application with its own migrations in `place`, on the database of `conninfo`."""

    def __init__(
        self,
        place: Path,
        conninfo: str,
        *,
        begin: str = PLAIN,
        options: dict[str, Any] | None = None,
        engine_options: dict[str, Any] | None = None,
        metadata: MetaData | None = None,
    ) -> None:
        self.conninfo = conninfo
        self.versions = place / "migrations" / "versions"
        self.versions.mkdir(parents=True)
        (place / "migrations" / "env.py").write_text(ENV.replace("{begin}", begin.strip()), encoding="utf-8")
        template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
        shutil.copy(template, place / "migrations" / "script.py.mako")
        self.metadata = metadata or MetaData()
        self.options = {"transaction_per_migration": True} if options is None else options
        self.engine_options = engine_options or {}
        self.place = place

    def config(self, *, output: io.StringIO | None = None) -> Config:
        config = Config(stdout=io.StringIO(), output_buffer=output)
        config.set_main_option("script_location", str(self.place / "migrations"))
        config.attributes.update(
            url=url_of(self.conninfo), metadata=self.metadata, options=self.options, engine_options=self.engine_options
        )
        return config

    def revision(self, revision: str, down: str | None, *, up: str, back: str = "pass") -> None:
        text = REVISION.format(
            revision=revision, down=down, upgrade=up.replace("\n", "\n    "), downgrade=back.replace("\n", "\n    ")
        )
        (self.versions / f"{revision}.py").write_text(text, encoding="utf-8")

    def upgrade(self, revision: str = "head") -> None:
        command.upgrade(self.config(), revision)

    def downgrade(self, revision: str) -> None:
        command.downgrade(self.config(), revision)

    def sql(self, revision: str = "head", *, down: bool = False) -> str:
        output = io.StringIO()
        run: Callable[..., None] = command.downgrade if down else command.upgrade
        run(self.config(output=output), revision, sql=True)
        return output.getvalue()

    def autogenerate(self, message: str = "changes") -> str:
        """The text of a new revision; it is in the chain from then on, unless there is nothing in it."""
        script: Any = command.revision(self.config(), message, autogenerate=True)
        file = Path(script.path)
        revision = file.read_text(encoding="utf-8")
        if is_empty(revision):
            file.unlink()
        return revision

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            return connection.execute(statement, parameters).fetchall()

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def indexes(self, table: str = "items") -> dict[str, str]:
        """The definitions of the table's valid vector indexes by name, from USING on; INVALID before it for others."""
        found = self.rows(
            "SELECT c.relname, i.indisvalid, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = to_regclass(%s) AND m.amname <> 'btree' ORDER BY 1",
            table,
        )
        return {name: ("" if is_valid else "INVALID ") + text.partition(" USING ")[2] for name, is_valid, text in found}

    def head(self) -> str | None:
        if self.rows("SELECT to_regclass('alembic_version')") == [(None,)]:
            return None
        found = self.rows("SELECT version_num FROM alembic_version")
        return found[0][0] if found else None


def application(place: Path, conninfo: str, mode: str = "a transaction for each revision") -> Application:
    begin, options, engine_options = EVERY[mode]
    made = Application(place, conninfo, begin=begin, options=dict(options), engine_options=dict(engine_options))
    made.run("CREATE EXTENSION IF NOT EXISTS vector")
    return made


def is_empty(revision: str) -> bool:
    """True for the text of a revision that does nothing, neither up nor down."""
    return revision.count("pass\n    # ### end Alembic commands ###") == 2


def vectors(count: int, dimensions: int, *, seed: int = 3) -> list[str]:
    """Vectors as pgvector's text, in clusters: so the recall of an index over them is high."""
    source = random.Random(seed)
    centres = [[source.gauss(0, 1) for _ in range(dimensions)] for _ in range(10)]
    return [
        "[" + ",".join(f"{value + source.gauss(0, 0.3):.4f}" for value in centres[number % 10]) + "]"
        for number in range(count)
    ]


def fill(conninfo: str, table: str, column: str, *, count: int = 200, dimensions: int = 8) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.cursor().executemany(
            f"INSERT INTO {table} ({column}) VALUES (%s)", [(vector,) for vector in vectors(count, dimensions)]
        )
        connection.execute(f"ANALYZE {table}")
