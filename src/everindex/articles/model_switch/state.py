"""The record of a change of the embedding model: beginning it, how far it is, and which generation serves.

Everything is in everindex_meta.model_generation and in the generations' own tables: a killed process loses nothing that it has
committed, and the next one continues from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from everindex.articles.embedding import Embedder
from everindex.articles.model_generations import (
    COLUMN,
    WIDEST_HALFVEC,
    ModelGeneration,
    serving_of,
    vector_type_of,
)
from everindex.articles.table import CollectionTable, read_table
from everindex.articles.table_models import known_model
from everindex.errors import ModelSwitchRefused
from everindex.pg import own_schema
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a switch has done so far, over all of its runs."""

    texts: int
    tokens: int
    """Estimated, of what was sent to the model."""

    seconds: float
    """While the model or the database was at work, without pauses."""


def filling_of(table: CollectionTable) -> ModelGeneration | None:
    """The generation that a switch fills."""
    return next((each for each in table.generations if each.state == "filling"), None)


def previous_of(table: CollectionTable) -> ModelGeneration | None:
    """The generation that a rollback makes serve: the one that served last."""
    kept = [each for each in table.generations if each.state == "kept"]
    return kept[-1] if kept else None


def why_not(table: CollectionTable, embedder: Embedder) -> ModelSwitchRefused | None:
    """Why a switch to this model cannot begin or continue; None where it can. Reads only its arguments."""
    if embedder.dimensions > WIDEST_HALFVEC:
        return ModelSwitchRefused(
            f"vectors of {embedder.dimensions} dimensions cannot be indexed.",
            why=f"an HNSW index of pgvector takes up to {WIDEST_HALFVEC} dimensions (halfvec), so every search would read all "
            "rows.",
            next_step="choose a narrower model, or ask this one for fewer dimensions with  --dimensions N.",
        )
    if table.has_passages or table.hides_passages:
        return ModelSwitchRefused(
            "articles with whole texts cannot be switched yet.",
            why="their passages have vectors, too, which would stay those of the old model.",
            next_step="set EMBEDDING_MODEL and run  everindex embed , which makes all vectors anew in place.",
        )
    serving = serving_of(table.generations)
    if serving is not None and serving.model == embedder.model:
        return ModelSwitchRefused(
            f"{embedder.model} serves already.",
            why="all articles have its vectors.",
            next_step="nothing is to be done; vectors of changed texts are made by  everindex embed.",
        )
    filling = filling_of(table)
    if filling is not None and filling.model != embedder.model:
        return ModelSwitchRefused(
            f"a switch to {filling.model} is not finished.",
            why="one switch at a time writes new vectors.",
            next_step=f"finish it with  everindex model switch {filling.name} , or remove what it wrote with  "
            f"everindex model drop {filling.number}.",
        )
    return None


def begin(conninfo: str, connection: Connection, embedder: Embedder, *, name: str) -> CollectionTable:
    """The table with the generation that the switch to this model fills: the one that was begun, else a new one, empty.

    One short transaction; takes SHARE ROW EXCLUSIVE on model_generation. `conninfo`: an address without a pooler. Raises
    ModelSwitchRefused, PermissionDenied.
    """
    own_schema.require_writable(connection, "model_generation", conninfo=conninfo, what="the generations of vectors")
    with translate_errors("beginning a change of the model"), connection.transaction():
        connection.execute("LOCK TABLE everindex_meta.model_generation IN SHARE ROW EXCLUSIVE MODE")
        table = read_table(connection)
        refused = why_not(table, embedder)
        if refused is not None:
            raise refused
        known = filling_of(table)
        if known is None:
            if serving_of(table.generations) is None:
                _record_column(connection, table, embedder)
            known = _create(connection, table, embedder, name)
        return read_table(connection).of_generation(known.number)


def _record_column(connection: Connection, table: CollectionTable, embedder: Embedder) -> None:
    """Records the articles' own column as the generation that serves."""
    model = known_model(connection, table)
    if model == embedder.model:
        raise ModelSwitchRefused(
            f"{embedder.model} serves already.",
            why="all vectors are by it.",
            next_step="nothing is to be done; missing vectors are made by  everindex embed.",
        )
    connection.execute(
        "INSERT INTO everindex_meta.model_generation (number, model, name, dimensions, vector_type, state, served_at) "
        "VALUES (%s, %s, %s, %s, %s, 'serving', clock_timestamp())",
        (COLUMN, model, model, table.dimensions or 0, table.vector_type),
    )


def _create(connection: Connection, table: CollectionTable, embedder: Embedder, name: str) -> ModelGeneration:
    row = connection.execute("SELECT max(number) + 1 FROM everindex_meta.model_generation").fetchone()
    assert row is not None
    generation = ModelGeneration(
        number=row[0], model=embedder.model, name=name, dimensions=embedder.dimensions,
        vector_type=vector_type_of(embedder.dimensions), state="filling",
    )  # fmt: skip
    connection.execute(
        "INSERT INTO everindex_meta.model_generation (number, model, name, dimensions, vector_type, state) "
        "VALUES (%s, %s, %s, %s, %s, 'filling')",
        (generation.number, generation.model, name, generation.dimensions, generation.vector_type),
    )
    connection.execute(
        sql.SQL(
            "CREATE TABLE {vectors} ({key} {key_type} PRIMARY KEY, vector_digest bytea NOT NULL, "
            "{vector} {schema}.{kind}({width}) NOT NULL)"
        ).format(
            vectors=generation.identifier,
            key=table.key,
            key_type=table.key_type,
            vector=sql.Identifier(generation.column),
            schema=sql.Identifier(table.extension_schema or "public"),
            kind=sql.Identifier(generation.vector_type),
            width=sql.Literal(generation.dimensions),
        )
    )
    connection.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(
            generation.identifier,
            sql.Literal(f"vectors of the articles by {generation.model}, generation {generation.number}"),
        )
    )
    _grant_as_articles(connection, table, generation)
    return generation


def _grant_as_articles(connection: Connection, table: CollectionTable, generation: ModelGeneration) -> None:
    """Whoever reads or writes the articles may read or write their vectors, as they could when these were a column."""
    rows = connection.execute(
        """
        SELECT CASE WHEN g.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(g.grantee) END, g.privilege_type
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) g
        WHERE c.oid = %s::regclass AND g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND g.grantee <> c.relowner
        """,
        (table.identifier.as_string(connection),),
    ).fetchall()
    wanted = sql.SQL("GRANT {} ON {} TO {}")
    for role, privilege in rows:
        who = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
        connection.execute(wanted.format(sql.SQL(privilege), generation.identifier, who))
        for name in ("model_generation", "model_failure"):
            connection.execute(wanted.format(sql.SQL("SELECT"), sql.Identifier("everindex_meta", name), who))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA everindex_meta TO {}").format(who))


def note_progress(connection: Connection, number: int, *, texts: int, tokens: int, seconds: float) -> None:
    """Adds to what the switch has done."""
    connection.execute(
        "UPDATE everindex_meta.model_generation SET texts = texts + %s, tokens = tokens + %s, seconds = seconds + %s "
        "WHERE number = %s",
        (texts, tokens, seconds, number),
    )


def read_progress(connection: Connection, number: int) -> Progress:
    """What the switch has done so far."""
    row = connection.execute(
        "SELECT texts, tokens, seconds FROM everindex_meta.model_generation WHERE number = %s", (number,)
    ).fetchone()
    return (
        Progress(texts=0, tokens=0, seconds=0.0)
        if row is None
        else Progress(texts=row[0], tokens=row[1], seconds=row[2])
    )


def list_generations(connection: Connection) -> list[dict[str, Any]]:
    """The generations that have vectors, with what a switch has done and its last verdict, for people; empty where no switch was
    ever begun. Reads only."""
    if not own_schema.is_readable(connection, "model_generation"):
        return []
    columns = (
        "generation",
        "model",
        "dimensions",
        "type",
        "state",
        "kept_until",
        "texts",
        "tokens",
        "seconds",
        "verdict",
    )
    rows = connection.execute(
        "SELECT number, model, dimensions, vector_type, state, kept_until, texts, tokens, seconds, verdict "
        "FROM everindex_meta.model_generation WHERE state <> 'dropped' ORDER BY number"
    ).fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]
