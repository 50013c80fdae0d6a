"""The roles of least privilege: each does its work and nothing else, on our tables, on an application's, with collections."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from access_fixtures import let_in
from application import make_application, snapshot
from command_line import everindex, url_of
from everindex.access.role_application import apply_roles
from everindex.access.role_observation import observe_for_roles
from everindex.access.roles import RoleNames, role_statements, script
from everindex.access.users import sign_in
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.model import Article
from everindex.errors import PermissionDenied, UsageError
from everindex.index.deploy.executor import deploy
from everindex.migrate import runner
from everindex.pg.connections import connect
from everindex.settings import Settings

NUMBERS = itertools.count()


@contextmanager
def roles_of(conninfo: str, prefix: str) -> Iterator[RoleNames]:
    """Names of roles; what of them exists at the end is removed, with what they own in one database."""
    found = RoleNames(prefix=f"{prefix}{os.getpid()}-{next(NUMBERS)}")
    yield found
    with psycopg.connect(conninfo, autocommit=True) as admin:
        for name in reversed(found.every):
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                admin.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(name)))
                admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def names(request: pytest.FixtureRequest) -> Iterator[RoleNames]:
    """Roles of the test's own, since they belong to the whole server; they need quoting."""
    database = next(name for name in ("filled", "migrated", "empty") if name in request.fixturenames)
    with roles_of(request.getfixturevalue(database), "Role-") as found:
        yield found


def apply(conninfo: str, names: RoleNames, **more: Any) -> None:
    with connect(conninfo) as connection:
        apply_roles(connection, names, **more)


def assert_refused(conninfo: str, *statements: str) -> None:
    """42501 for every one, or 25006 where the session only reads."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(statement)
            assert refused.value.sqlstate in ("42501", "25006"), (statement, refused.value)


#: Acts that need the ownership of something, or a superuser.
DDL = (
    "CREATE TABLE public.x (id int)", "DROP TABLE articles", "ALTER TABLE articles ADD COLUMN x int", "TRUNCATE articles",
    "CREATE INDEX ON articles (title)", "DROP INDEX articles_embedding_hnsw_idx", "REINDEX INDEX articles_embedding_hnsw_idx",
    "CREATE SCHEMA x", "CREATE EXTENSION pg_trgm", "CREATE ROLE x", "COPY articles TO PROGRAM 'cat'",
    "COPY articles TO '/tmp/x'", "SELECT pg_read_file('/etc/passwd')", "SELECT pg_reload_conf()",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "CREATE TABLE everindex_meta.x (id int)", "DROP SCHEMA everindex_meta CASCADE", "SELECT * FROM pg_authid",
    "COMMENT ON TABLE articles IS 'x'",
    "CREATE TRIGGER t BEFORE INSERT ON articles EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "INSERT INTO alembic_version VALUES ('x')", "DELETE FROM everindex_meta.schema_version",
    "ALTER DATABASE postgres SET work_mem = '1GB'",
    "SET ROLE pg_read_all_data",
)  # fmt: skip
SECRETS = (
    "INSERT INTO everindex_meta.access_token (name, digest, scope) VALUES ('x', 'x', 'operate')",
    "UPDATE everindex_meta.access_token SET scope = 'operate'",
    "UPDATE everindex_meta.access_user SET scope = 'operate'",
    "INSERT INTO everindex_meta.access_user (name, password_hash, scope) VALUES ('x', 'x', 'operate')",
    "DELETE FROM everindex_meta.access_token", "DELETE FROM everindex_meta.access_user",
)  # fmt: skip


def test_each_role_does_its_work_and_every_other_act_is_refused(filled: str, names: RoleNames) -> None:
    with connect_instance(filled, settings=Settings()) as owner:
        owner.collection("pets", dim=384).upsert([{"id": "a", "text": "a tiger"}])
    let_in(filled)
    apply(filled, names)
    as_app, as_reader = make_conninfo(filled, user=names.app), make_conninfo(filled, user=names.reader)

    with connect_instance(as_app, settings=Settings()) as app:
        for mode in ("hybrid", "semantic", "keyword"):
            assert len(app.search("memory leak", k=10, mode=mode).hits) == 10  # type: ignore[arg-type]
        app.upsert([Article(uri="urn:new", title="a new article about tigers")])
        assert app.search("a new article about tigers", k=1).hits[0].uri == "urn:new"
        assert app.delete(["urn:new"]) == 1
        app.saved_searches.add("leaks", "memory leak")
        app.incidents.create(incident_name="i", topic="t", status="active")
        app.collection("pets").upsert([{"id": "b", "text": "another tiger"}])
        assert len(app.collection("pets").search("tiger").hits) == 2
        with pytest.raises(PermissionDenied):
            app.collection("more", dim=8)
        with app.connection() as connection:
            assert sign_in(connection, "u-read", "correct horse battery", hours=1)
    assert_refused(as_app, *DDL, *SECRETS)

    with connect_instance(as_reader, settings=Settings()) as reader:
        assert len(reader.search("memory leak").hits) == 10
        assert reader.collection("pets").search("tiger").hits
    secret = [f"SELECT * FROM everindex_meta.{table}" for table in ("access_token", "access_user", "access_session")]
    writes = (
        "INSERT INTO articles (uri) VALUES ('x')",
        "DELETE FROM articles",
        "UPDATE everindex_meta.saved_search SET name = 'x'",
    )
    assert_refused(as_reader, *DDL, *secret, *writes)
    as_ops = make_conninfo(filled, user=names.ops)
    assert_refused(as_ops, *DDL, *secret, *writes)
    with psycopg.connect(as_ops) as connection:
        assert connection.execute("SELECT query FROM pg_stat_activity").fetchall()
    for command in (("status",), ("verify", "--samples", "5"), ("doctor",)):
        done = everindex(*command, DATABASE_URL=url_of(as_ops))
        assert done.status in (0, 3), done.stderr
        assert "permission" not in done.stdout + done.stderr, done.stdout


def test_the_migrator_migrates_deploys_and_makes_collections_as_the_owner(filled: str, names: RoleNames) -> None:
    apply(filled, names)
    as_migrator = make_conninfo(filled, user=names.migrator)
    with psycopg.connect(filled, autocommit=True) as admin:
        admin.execute("DROP INDEX articles_embedding_hnsw_idx")
    assert deploy(as_migrator, EMBEDDING_INDEX).outcome == "built"
    runner.upgrade(as_migrator, wait_seconds=0)
    with connect_instance(as_migrator, settings=Settings()) as migrator:
        migrator.collection("pets", dim=384).upsert([{"id": "a", "text": "a tiger"}])
    with connect_instance(make_conninfo(filled, user=names.app), settings=Settings()) as app:
        assert app.collection("pets").search("tiger").hits, "what is made later is the application's to use"
    with psycopg.connect(filled) as admin:
        owners = admin.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'everindex_meta')"
        ).fetchall()
        assert owners == [(names.owner,)]
    assert_refused(as_migrator, "CREATE ROLE x", "COPY articles TO PROGRAM 'cat'", "SELECT * FROM pg_authid")


def test_an_empty_database_is_migrated_by_the_migrator(empty: str, names: RoleNames) -> None:
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
    apply(empty, names)
    runner.upgrade(make_conninfo(empty, user=names.migrator), wait_seconds=0)
    apply(empty, names)  # as the documentation says, after the tables exist
    with connect_instance(make_conninfo(empty, user=names.app), settings=Settings()) as app:
        app.upsert([Article(uri="urn:a", title="a tiger")])
        assert [hit.uri for hit in app.search("tiger").hits] == ["urn:a"]
    assert_refused(make_conninfo(empty, user=names.app), "CREATE TABLE x (id int)", *SECRETS)


def test_what_an_application_owns_stays_its_own(empty: str, names: RoleNames) -> None:
    owner = f"application_{os.getpid()}"
    make_application(empty, revision=None)
    with psycopg.connect(empty, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(owner)))
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(owner)))
        for table in ("articles", "incident_status", "raw_articles"):
            admin.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), sql.Identifier(owner)))
        admin.execute("CREATE SCHEMA everindex_meta")
        admin.execute("COMMENT ON SCHEMA everindex_meta IS 'everindex: attached'")
    try:
        before = {row[:4] for row in snapshot(empty) if row[0] in ("relation", "column")}
        apply(empty, names)
        assert {row[:4] for row in snapshot(empty) if row[0] in ("relation", "column")} == before, (
            "no owner has changed"
        )
        assert deploy(make_conninfo(empty, user=names.migrator), EMBEDDING_INDEX).outcome == "built"
        assert_refused(make_conninfo(empty, user=names.app), "DROP TABLE articles", "SELECT * FROM application_3")
        with psycopg.connect(make_conninfo(empty, user=names.app)) as app:
            assert app.execute("SELECT count(*) FROM articles").fetchone() == (1200,)
    finally:
        with psycopg.connect(empty, autocommit=True) as admin:
            admin.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(owner)))
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(owner)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


def test_names_that_need_quoting_are_quoted(migrated: str) -> None:
    with roles_of(migrated, 'Ro"le; DROP ROLE x --\\ $$ %s {0} ü') as hostile:
        apply(migrated, hostile)
        assert_refused(make_conninfo(migrated, user=hostile.app), "CREATE TABLE x (id int)")


def test_applying_again_changes_nothing_and_the_script_does_the_same(migrated: str, names: RoleNames) -> None:
    def privileges() -> list[tuple[Any, ...]]:
        with psycopg.connect(migrated) as connection:
            return connection.execute(
                "SELECT oid::regclass::text, relowner::regrole::text, relacl::text FROM pg_class "
                "WHERE relnamespace IN ('public'::regnamespace, 'everindex_meta'::regnamespace) "
                "UNION ALL SELECT nspname, nspowner::regrole::text, nspacl::text FROM pg_namespace "
                "UNION ALL SELECT setrole::regrole::text, setdatabase::text, setconfig::text FROM pg_db_role_setting "
                "UNION ALL SELECT roleid::regrole::text, member::regrole::text, '' FROM pg_auth_members ORDER BY 1, 2"
            ).fetchall()

    with connect(migrated) as connection:
        observed = observe_for_roles(connection)
        text = script(role_statements(observed, names), observed, names)
    statements = "\n".join(line for line in text.splitlines() if not line.startswith("\\"))
    for _ in range(2):
        with psycopg.connect(migrated, autocommit=True) as connection:
            connection.execute(statements)
    by_script = privileges()
    apply(migrated, names)
    assert privileges() == by_script


def test_passwords_are_in_files_and_nowhere_else(migrated: str, names: RoleNames, tmp_path: Path) -> None:
    folder = tmp_path / "roles"
    done = everindex(
        "roles", "--apply", "--prefix", names.prefix, "--passwords", str(folder), DATABASE_URL=url_of(migrated)
    )
    assert done.status == 0, done.stderr
    passwords = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert set(passwords) == set(names.login)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert not any(password in done.stdout + done.stderr for password in passwords.values())
    with psycopg.connect(migrated) as admin:
        stored = dict(
            admin.execute("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)", ([*names.every],))
        )
    assert stored[names.owner] is None
    emptied = folder / names.login[0]
    emptied.write_text("")  # as a disk that was full leaves it
    assert all(stored[name].startswith("SCRAM-SHA-256$") for name in names.login)
    again = everindex(
        "roles",
        "--apply",
        "--prefix",
        names.prefix,
        "--passwords",
        str(folder),
        "--json",
        DATABASE_URL=url_of(migrated),
    )
    assert again.json["applied"] is True
    now = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert len(now.pop(emptied.name)) >= 32, "an empty file is no password"
    assert now == {name: word for name, word in passwords.items() if name != emptied.name}, "a password is kept"
    assert not any(password in again.stdout for password in passwords.values())


def test_a_role_that_may_not_make_roles_is_told_what_to_do(migrated: str, names: RoleNames) -> None:
    apply(migrated, names)
    with connect(make_conninfo(migrated, user=names.app)) as connection:
        with pytest.raises(PermissionDenied, match="may not apply") as refused:
            apply_roles(connection, names)
        assert "--print" in refused.value.next_step
    printed = everindex(
        "roles", "--print", "--prefix", names.prefix, DATABASE_URL=url_of(make_conninfo(migrated, user=names.ops))
    )
    assert printed.status == 0, printed.stderr
    for words in ([], ["--print", "--apply"], ["--print", "--passwords", "x"]):
        assert everindex("roles", *words, DATABASE_URL=url_of(migrated)).status == 2


@pytest.mark.parametrize("prefix", ["", "x" * 60, "pg_x", "a\0b", "ä" * 30])
def test_a_prefix_that_no_role_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        RoleNames(prefix=prefix)
