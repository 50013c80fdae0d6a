"""The models that made a table's vectors: recorded for each vector, declared for vectors without a record, or unrecorded.

`known_model` is for code that embeds a text to compare it with stored vectors (a search, or a recall measurement with
embedded titles): it names the one model that made every vector, or None where that is not known. It does not guarantee
that a record is true: another program may have overwritten a vector. `everindex model declare` and `everindex embed
--check` compare. Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import CollectionTable, read_table
from everindex.errors import ColumnMismatch, EmbeddingModelUnrecorded, NotMigrated
from everindex.index.recall.proof import Note
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class TableModels:
    """What is known about the models that made the vectors of one table."""

    recorded: Mapping[str, int] = field(default_factory=dict)
    """Model → number of vectors recorded as made by it."""

    declared: str | None = None
    """The model declared, after a comparison, for the vectors without a record."""

    has_unrecorded: bool = False
    """Some vectors that are not zero have no record."""

    is_unrecorded: bool = field(init=False)
    """Some vectors have neither a record nor a declaration, so no text can be compared with them."""

    names: frozenset[str] = field(init=False)
    """Every model known to have made a vector of the table."""

    def __post_init__(self) -> None:
        declared = {self.declared} if self.has_unrecorded and self.declared else frozenset[str]()
        object.__setattr__(self, "is_unrecorded", self.has_unrecorded and self.declared is None)
        object.__setattr__(self, "names", frozenset(self.recorded) | declared)

    @property
    def only(self) -> str | None:
        """The one model that made every vector; None where the vectors are of several models or an unknown one, or
        there are none."""
        return None if self.is_unrecorded or len(self.names) != 1 else next(iter(self.names))


def known_model(connection: Connection, table: CollectionTable) -> str | None:
    """The name of the one model that made every vector of the table, for comparison with `Embedder.model` before a text
    is embedded; None where it is not known, where models are mixed, and where there are no vectors."""
    return read_table_models(connection, table).only


def read_table_models(
    connection: Connection, table: CollectionTable, *, has_unrecorded: bool | None = None
) -> TableModels:
    """Reads the records, the declaration, and whether some vector has neither, in one round trip (two where more than
    one model is recorded). A known `has_unrecorded` saves comparing the table with the records."""
    if table.dimensions is None:
        return TableModels()
    statement = sql.SQL("SELECT {recorded}, {declared}, {unrecorded}").format(
        recorded=_recorded(table) if table.has_embedding_records else sql.SQL("NULL"),
        declared=declared_sql(table, "model"),
        unrecorded=unrecorded_exists(table) if has_unrecorded is None else sql.Literal(has_unrecorded),
    )
    with translate_errors("reading which models made the vectors"):
        row = connection.execute(statement).fetchone()
        assert row is not None
        recorded: dict[str, int] = row[0] or {}
        if len(recorded) > 1:
            # Records whose article, or its vector, was deleted by hand-written SQL are not counted.
            recorded = dict(connection.execute(_recorded_there(table)).fetchall())
    return TableModels(recorded=recorded, declared=row[1], has_unrecorded=row[2])


def declared_sql(table: CollectionTable, column: str) -> sql.Composable:
    """One column of the table's declaration, as an SQL expression; NULL without a declaration."""
    if not table.has_declared_models:
        return sql.SQL("NULL")
    return sql.SQL(
        "(SELECT d.{} FROM everindex_meta.declared_model d WHERE d.table_schema = {} AND d.table_name = {})"
    ).format(sql.Identifier(column), sql.Literal(table.schema), sql.Literal(table.spec.table))


def records(table: CollectionTable) -> sql.SQL:
    """The table of records."""
    return sql.SQL("everindex_meta.embedding_record" if table.spec is ARTICLES else "everindex_meta.collection_record")


def is_record_of(table: CollectionTable, alias: str = "a") -> sql.Composable:
    """The condition that the record `r` is that of the row `alias`."""
    if table.spec is ARTICLES:
        return sql.SQL("r.uri = {}.uri").format(sql.Identifier(alias))
    return sql.SQL("r.collection = {} AND r.key = {}.{}::pg_catalog.text").format(
        sql.Literal(table.spec.name), sql.Identifier(alias), table.key
    )


def without_record(table: CollectionTable, alias: str = "a") -> sql.Composable:
    """The condition that a row's vector has no record."""
    if not table.has_embedding_records:
        return sql.SQL("true")
    return sql.SQL("NOT EXISTS (SELECT FROM {} r WHERE {})").format(records(table), is_record_of(table, alias))


def is_zero(table: CollectionTable, alias: str = "a") -> sql.Composable:
    """A condition on a row: its vector is zero, an embedding that failed unseen. Reads the vector. Where lengths count, a zero
    vector is one like any other."""
    if table.spec.metric != "cosine":
        return sql.SQL("false")
    return sql.SQL("{}({}.{}) = 0").format(norm_function(table), sql.Identifier(alias), table.vector)


def norm_function(table: CollectionTable) -> sql.Identifier:
    """pgvector's function that gives the length of a vector of the table."""
    return sql.Identifier(
        table.extension_schema or "public", "vector_norm" if table.vector_type == "vector" else "l2_norm"
    )


def unrecorded_exists(table: CollectionTable) -> sql.Composable:
    """An SQL expression: whether any non-zero vector has no record. Stops at the first one; otherwise compares all rows
    and records."""
    # OFFSET 0: the length is computed only for rows without a record; as a condition of the scan it would read every
    # vector.
    return sql.SQL(
        "EXISTS (SELECT FROM (SELECT a.{vector} FROM {table} a WHERE a.{vector} IS NOT NULL AND {unrecorded} OFFSET 0) "
        "AS a "
        "WHERE NOT {is_zero})"
    ).format(vector=table.vector, table=table.identifier, unrecorded=without_record(table), is_zero=is_zero(table))


def unrecorded_error(table: CollectionTable) -> EmbeddingModelUnrecorded:
    """The error that says why no text may be compared with this table's vectors, and what to do."""
    if table.records_hidden_from is not None:
        role = sql.Identifier(table.records_hidden_from).as_string(None)
        return EmbeddingModelUnrecorded(
            "this role may not read which model made the vectors of this table.",
            why=f"it is recorded in schema everindex_meta, which role {role} may not read.",
            next_step=f"have its owner run  GRANT USAGE ON SCHEMA everindex_meta TO {role}; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA everindex_meta TO {role};",
        )
    return EmbeddingModelUnrecorded(
        "no record says which model made the vectors of this table.",
        why="another program wrote them, or the records were lost; vectors of different models cannot be compared.",
        next_step="run  everindex model declare NAME  (NAME: static, or the model's name at the endpoint): it compares "
        "before it records.",
    )


def unrecorded_note(connection: Connection, table: CollectionTable) -> tuple[Note, ...]:
    """For `verify` and `status`: a note that no record says which model made the table's vectors; empty where it is known."""
    if not read_table_models(connection, table).is_unrecorded:
        return ()
    why = unrecorded_error(table)
    return (
        Note(slug=why.slug, sentence=f"{why.what} Search texts are matched by keyword only.", next_step=why.next_step),
    )


def notes_of(connection: Connection, collection: CollectionSpec = ARTICLES) -> tuple[Note, ...]:
    """Notes shown beside the checks; empty where there is no article table. Reads only."""
    try:
        return unrecorded_note(connection, read_table(connection, collection))
    except (NotMigrated, ColumnMismatch):
        return ()


def _recorded(table: CollectionTable) -> sql.Composable:
    """Model → vectors that are recorded as made by it, as a JSON object."""
    return sql.SQL(
        "(SELECT pg_catalog.jsonb_object_agg(m.model, m.vectors) "
        "FROM (SELECT r.model, count(*) AS vectors FROM {} r WHERE {} GROUP BY r.model) AS m)"
    ).format(
        records(table),
        sql.SQL("true")
        if table.spec is ARTICLES
        else sql.SQL("r.collection = {}").format(sql.Literal(table.spec.name)),
    )


def _recorded_there(table: CollectionTable) -> sql.Composed:
    """The same, counting only rows that still have a vector."""
    return sql.SQL(
        "SELECT r.model, count(*) FROM {records} r JOIN {table} a ON {matches} WHERE a.{vector} IS NOT NULL GROUP BY "
        "r.model"
    ).format(records=records(table), table=table.identifier, matches=is_record_of(table), vector=table.vector)
