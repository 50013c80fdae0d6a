"""`everindex status`: the database's revision, its collections and the state of every declared index; without measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everindex.cli.collection_option import OneCollectionOption
from everindex.cli.declared import DeclaredOption, IndexOption, declared_indexes
from everindex.cli.output import JsonOption, print_json, say
from everindex.cli.proofs import print_proofs
from everindex.cli.waiting import WaitOption, connect_patiently
from everindex.errors import ColumnMismatch, NothingDeclared, NotMigrated, PermissionDenied
from everindex.index.recall.proof import Note, Proof, Verification
from everindex.index.recall.verify import note_of_shortfall, prove_index
from everindex.index.spec import IndexSpec
from everindex.pg import address
from everindex.pg.capabilities import look, version_text
from everindex.pg.connections import Connection
from everindex.pg.replica import state_of
from everindex.settings import read_settings

if TYPE_CHECKING:
    from everindex.articles.shape.cut import PassageCounts


def status(
    declared: DeclaredOption = None,
    index: IndexOption = None,
    collection: OneCollectionOption = None,
    wait: WaitOption = None,
    as_json: JsonOption = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Print metrics for Prometheus instead, as of this moment.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="With --prometheus: replace this file, as a textfile collector needs it.",
        ),
    ] = None,
) -> None:
    settings = read_settings()
    if prometheus or to is not None:
        from everindex.cli.status_metrics import print_metrics  # with the library that writes them

        print_metrics(settings, lambda connection: _chosen(connection, declared, index, collection), wait=wait, to=to)
        return
    with (
        address.servers(settings) as found_at,
        connect_patiently(found_at.direct, settings, wait, application_name="everindex status") as connection,
    ):
        found = look(connection)
        proofs, collections = _standing(connection, collection) if declared is None else ([], [])
        for spec in _specs(connection, declared, index, collection, collections):
            proof, observed = prove_index(connection, spec)
            proofs += [proof, *(note_of_shortfall(connection, spec, observed) if proof.holds else ())]
        notes = _notes(connection) if declared is None and collection is None else ()
        texts = _whole_texts(connection) if declared is None and collection is None else None
        reads = None if found_at.read is None else state_of(found_at.read, primary=connection)
    server = f"PostgreSQL {found.server_version}, pgvector {version_text(found.extension_version)}"
    result = Verification(proofs=tuple(proofs), notes=notes)
    if as_json:
        where = {"server": server, "database": address.describe(found_at.direct)}
        extra: dict[str, Any] = {"collections": collections} if collections else {}
        extra |= {} if texts is None else {"whole_texts": texts.as_dict()}
        print_json(where | ({} if reads is None else {"reads": reads.as_dict()}) | extra | result.as_dict())
    else:
        say(f"{server}, {address.describe(found_at.direct)}")
        if reads is not None:
            say(f"reads: {reads.sentence}")
        _print_collections(collections)
        print_proofs(result, to=say)
        if texts is not None:
            say(f"whole texts: {texts.sentence}")
    if not result.holds:
        raise typer.Exit(3)


def _chosen(
    connection: Connection, declared: str | None, names: list[str] | None, collection: str | None
) -> tuple[IndexSpec, ...] | None:
    """The indexes that the options name; None for all that the database declares."""
    if declared is None and names is None and collection is None:
        return None
    return declared_indexes(connection, declared, names, collection)


def _standing(connection: Connection, collection: str | None) -> tuple[list[Proof], list[dict[str, Any]]]:
    """The proofs that precede those of the indexes, and the collections as they are now."""
    from everindex.articles.collections.description import described, prove_standing  # not before a server has answered

    if collection is None:
        return list(prove_standing(connection)), described(connection)
    return [], [each for each in described(connection) if each["name"] == collection]


def _specs(
    connection: Connection,
    declared: str | None,
    names: list[str] | None,
    collection: str | None,
    collections: list[dict[str, Any]],
) -> tuple[IndexSpec, ...]:
    """The declared indexes; none where the database has collections, and all of them have lost their tables."""
    try:
        return declared_indexes(connection, declared, names, collection)
    except NothingDeclared:
        if collections:
            return ()
        raise


def _print_collections(collections: list[dict[str, Any]]) -> None:
    from everindex.articles.collections.description import sentence_of

    for each in collections:
        say(f"collection {sentence_of(each)}")


def _whole_texts(connection: Connection) -> PassageCounts | None:
    """How many whole texts were cut; None where there are none, or they may not be read."""
    from everindex.articles.passages.store import read_counts
    from everindex.articles.table import read_table

    try:
        return read_counts(connection, read_table(connection))
    except (NotMigrated, ColumnMismatch, PermissionDenied):
        return None


def _notes(connection: Connection) -> tuple[Note, ...]:
    from everindex.articles.table_models import notes_of  # with pgvector: not before a server has answered

    return notes_of(connection)
