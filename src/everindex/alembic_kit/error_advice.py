"""Next steps of the engine's errors for users of `alembic`: a revision, env.py or an alembic command.

The engine's own texts address the user of the `everindex` command, whose declaration, migrations and address are everindex's.
The slug, what happened and why stay the same. Only EverindexError is caught here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.runtime.migration import MigrationContext

from everindex.errors import (
    CredentialsRefused,
    DatabaseMissing,
    DirectAddressNeeded,
    EverindexError,
    IndexDefinitionDiffers,
    NotMigrated,
    PostgresTooOld,
    ServerHostUnknown,
    ServerUnreachable,
    StatementTimedOut,
)

_ADDRESS = (
    "everindex opens its own connection to the server of env.py's connection; if that fails, pass an address in env.py: "
    " context.configure(…, everindex_conninfo='postgresql://…')."
)
#: The next step for errors whose remedy is different in other applications.
_NEXT: tuple[tuple[type[EverindexError], str], ...] = (
    (
        NotMigrated,
        "correct the names and `schema` in the revision, or create the table and its column before this operation.",
    ),
    (CredentialsRefused, _ADDRESS),
    (DatabaseMissing, _ADDRESS),
    (ServerHostUnknown, _ADDRESS),
    (ServerUnreachable, _ADDRESS),
    (
        DirectAddressNeeded,
        "pass the server's own address in env.py:  context.configure(…, everindex_conninfo='postgresql://…') , then run the "
        "same alembic command again.",
    ),
    (PostgresTooOld, "upgrade the server (pg_upgrade); nothing was changed."),
    (StatementTimedOut, "raise statement_timeout for this role or database, then run the same alembic command again."),
)
#: Commands in the engine's texts, and their equivalents in a revision, for errors whose text also says what was left behind.
_COMMANDS = (
    (
        "run  everindex deploy , which builds the declared index next to it, tests it and swaps the two;",
        "use op.alter_vector_index, or op.create_vector_index(…, replace=True), which builds the declared index next to it, "
        "tests it and swaps the two;",
    ),
    (
        "Change the declaration (a larger m or ef_construction), then run  everindex deploy.",
        "Change the revision (a larger m or ef_construction), then run the same alembic command again.",
    ),
    ("The next start, or  everindex heal , continues", "The same alembic command continues"),
    ("the next deploy removes it", "the same alembic command removes it when it is run again"),
    ("run the same command again", "run the same alembic command again"),
)


@contextmanager
def advise_for_alembic(context: MigrationContext) -> Iterator[None]:
    """Inside the block an EverindexError gets the next step for an application with its own migrations and address.

    If env.py has passed `everindex_conninfo` and a reporter, as everindex's own does, the error is unchanged.
    """
    try:
        yield
    except EverindexError as exc:
        if "everindex_reporter" not in context.opts:
            exc.next_step = _next_step(exc)
        raise


def _next_step(exc: EverindexError) -> str:
    # The first sentence of some says what happened to an unfinished index; mismatched dimensions are not such a case.
    for kind, step in _NEXT:
        if isinstance(exc, kind):
            return step
    step = exc.next_step
    for ours, theirs in _COMMANDS:
        step = step.replace(ours, theirs)
    if isinstance(exc, IndexDefinitionDiffers):
        step = step.replace("in the declaration", "in the revision")
    return step
