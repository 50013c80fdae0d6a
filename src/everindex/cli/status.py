"""`everindex status`: the database's revision and the state of every declared index; quick, without measurements."""

from __future__ import annotations

import typer

from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.proofs import print_proofs
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.index.recall.proof import Note, Verification
from everindex.index.recall.verify import note_of_shortfall, prove_index
from everindex.migrate.standing import prove_revision
from everindex.pg import address
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import Connection
from everindex.pg.replica import state_of
from everindex.settings import read_settings


def status(
    declared: DeclaredOption = None, index: IndexOption = None, wait: WaitOption = None, as_json: JsonOption = False
) -> None:
    settings = read_settings()
    with (
        address.servers(settings) as found_at,
        connect_patiently(found_at.direct, settings, wait, application_name="everindex status") as connection,
    ):
        found = look(connection)
        proofs = [prove_revision(connection)] if declared is None else []
        for spec in declared_indexes(connection, declared, index):
            proof, observed = prove_index(connection, spec)
            proofs += [proof, *(note_of_shortfall(connection, spec, observed) if proof.holds else ())]
        notes = _notes(connection) if declared is None else ()
        reads = None if found_at.read is None else state_of(found_at.read, primary=connection)
    server = f"PostgreSQL {found.server_version}, pgvector {version_text(found.extension_version)}"
    result = Verification(proofs=tuple(proofs), notes=notes)
    if as_json:
        where = {"server": server, "database": address.describe(found_at.direct)}
        print_json(where | ({} if reads is None else {"reads": reads.as_dict()}) | result.as_dict())
    else:
        say(f"{server}, {address.describe(found_at.direct)}")
        if reads is not None:
            say(f"reads: {reads.sentence}")
        print_proofs(result, to=say)
    if not result.holds:
        raise typer.Exit(3)


def _notes(connection: Connection) -> tuple[Note, ...]:
    from everindex.articles.table_models import notes_of  # with pgvector: not before a server has answered

    return notes_of(connection)
