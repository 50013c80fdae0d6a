"""The roles made real: all statements in one transaction, and a password for each role that logs in, if wanted.

A password is made here, written to a file that only its owner can read, and sent to the server as a SCRAM verifier, which
neither the server's log nor anything printed reveals. One that has a file already is kept.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from psycopg import sql

from everindex.access.role_observation import observe_for_roles, require_applicable
from everindex.access.roles import Group, Observed, RoleNames, role_statements
from everindex.errors import UsageError
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

LOCK_TIMEOUT = "10s"


def apply_roles(
    connection: Connection, names: RoleNames, *, passwords: Path | None = None
) -> tuple[Observed, tuple[Group, ...]]:
    """Makes the roles, and with `passwords`, a directory, a password for each in a file of its name.

    Takes ACCESS EXCLUSIVE on each table that gets another owner, for a moment. Raises UsageError, PermissionDenied,
    LockNotObtained after 10 s; then nothing has changed, except that files may have been written."""
    observed = observe_for_roles(connection)
    require_applicable(connection, observed, names.every)
    groups = role_statements(observed, names)
    verifiers = {} if passwords is None else _verifiers(connection, names, passwords)
    with translate_errors("making the roles"), connection.transaction():
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
        for group in groups:
            for statement in group.statements:
                connection.execute(statement)
        for name, verifier in verifiers.items():
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier)))
    return observed, groups


def _verifiers(connection: Connection, names: RoleNames, folder: Path) -> dict[str, str]:
    """Role → SCRAM verifier of the password in its file, which is written where it is missing. Raises UsageError."""
    found = {}
    for name in names.login:
        password = _password(folder, name)
        found[name] = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    return found


def _password(folder: Path, role: str) -> str:
    path = folder / role
    if path.parent != folder:
        raise UsageError(
            f"{role!r} cannot be the name of a file.",
            why="passwords are written to files named after their roles.",
            next_step="choose a prefix without  / .",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and (kept := path.read_text(encoding="utf-8").strip()):
            return kept
        password = secrets.token_urlsafe(32)
        # Beside it and then in its place, so that a process that is killed leaves no empty password.
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, prefix=".", delete=False) as file:
            file.write(password + "\n")
        os.replace(file.name, path)
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"the password of {role} cannot be kept in {folder}.",
            why=f"{getattr(exc, 'strerror', None) or 'the file is not text'}.",
            next_step="name a directory that this user can write to.",
        ) from None
    return password
