"""At which revision is a database, and is that the head? Read without Alembic: a probe asks every few seconds."""

from __future__ import annotations

from everindex.index.proof import Proof, fails
from everindex.migrate.chain import head_revision
from everindex.pg.connections import Connection


def current_revisions(connection: Connection) -> list[str]:
    """What the database's alembic_version says; empty where there is none. Reads only."""
    row = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return []
    return sorted(r[0] for r in connection.execute("SELECT version_num FROM alembic_version").fetchall())


def prove_revision(connection: Connection) -> Proof:
    """The database is at the head of the chain. Reads only."""
    head = head_revision()
    current = current_revisions(connection)
    if current == [head]:
        return Proof(name="revision", holds=True, sentence=f"the database is at revision {head} (head)")
    return fails(
        "revision",
        f"the database is at revision {', '.join(current) or 'none'}; head is {head}",
        "run  everindex migrate  (or alembic upgrade head).",
    )
