"""Next steps of the engine's errors for users of `alembic`: a revision, env.py or an alembic command.

The engine's own texts speak to the user of the `everindex` command, whose declaration, migrations and address are everindex's.
The slug, what happened and why stay. Nothing is caught here that is not an EverindexError.
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
    "everindex connects on its own to where the connection of env.py is; where that does not work, pass an address in env.py: "
    " context.configure(…, everindex_conninfo='postgresql://…')."
)
#: What to do next, for errors whose cure lies elsewhere in an application of its own.
_NEXT: tuple[tuple[type[EverindexError], str], ...] = (
    (
        NotMigrated,
        "correct the names and `schema` in the revision, or make the table and its column before this operation.",
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
#: Commands that the engine names, and what is the same in a revision. By the texts of errors whose other half says what was
#: left behind.
_COMMANDS = (
    (
        "run  everindex deploy , which builds the declared index beside it, proves it and swaps the two;",
        "use op.alter_vector_index, or op.create_vector_index(…, replace=True): the declared index is built beside it and "
        "proven, and then they are swapped;",
    ),
    (
        "Change the declaration (a larger m or ef_construction), then run  everindex deploy.",
        "Change the revision (a larger m or ef_construction), then run the same alembic command again.",
    ),
    ("The next start, or  everindex heal , goes on", "The same alembic command goes on"),
    ("the next deploy removes it", "the same alembic command removes it when it is run again"),
    ("run the same command again", "run the same alembic command again"),
)


@contextmanager
def advise_for_alembic(context: MigrationContext) -> Iterator[None]:
    """Inside the block an EverindexError gets the next step of an application with its own migrations and address.

    Where env.py has passed `everindex_conninfo` and a reporter, as everindex's own does, it stays as it is.
    """
    try:
        yield
    except EverindexError as exc:
        if "everindex_reporter" not in context.opts:
            exc.next_step = _next_step(exc)
        raise


def _next_step(exc: EverindexError) -> str:
    # The first sentence of some says what became of an unfinished index; an index of another width is no such case.
    for kind, step in _NEXT:
        if isinstance(exc, kind):
            return step
    step = exc.next_step
    for ours, theirs in _COMMANDS:
        step = step.replace(ours, theirs)
    if isinstance(exc, IndexDefinitionDiffers):
        step = step.replace("in the declaration", "in the revision")
    return step
