"""Frozen: the btree indexes of revisions d8d9cdcec340 and 1745b4f22f68, made without stopping writers of a table in use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text


def create_filter_indexes(op: Any, table: str, indexes: dict[str, str]) -> None:
    """Makes each missing index {name: column} on `table`.

    On an empty table (and offline) plain and inside the revision's transaction: SHARE lock, for an instant. On a table
    with rows CONCURRENTLY, each outside a transaction: SHARE UPDATE EXCLUSIVE, so readers and writers go on; an INVALID
    index that an interrupted run left behind is dropped first.
    """
    context = op.get_context()
    if context.as_sql:
        for name, column in indexes.items():
            op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({column})")
        return
    bind = op.get_bind()
    rows = bind.execute(
        text(
            "SELECT c.relname, i.indisvalid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass(:table) AND c.relname = ANY(:names)"
        ),
        {"table": table, "names": list(indexes)},
    )
    is_valid = {row[0]: row[1] for row in rows}
    missing = {name: column for name, column in indexes.items() if not is_valid.get(name)}
    if not missing:
        return
    has_rows = bind.execute(text(f"SELECT EXISTS (SELECT FROM {table})")).scalar()  # noqa: S608 a name of the revision
    if not has_rows:
        for name, column in missing.items():
            op.execute(f"CREATE INDEX {name} ON {table} ({column})")
        return
    with context.autocommit_block():
        op.execute("SET lock_timeout = 0")
        for name, column in missing.items():
            if name in is_valid:
                op.execute(f"DROP INDEX CONCURRENTLY {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} ({column})")
        op.execute("RESET lock_timeout")
