"""Rule: all recorded and declared vectors of the database come from one model."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good
from everindex.doctor.vector_records import read_unrecorded
from everindex.pg.own_schema import is_readable
from everindex.units import count_text

#: Number of models that are distinguished, and of rows that are counted for each.
MODELS = 10
COUNTED = 1000
#: Records of a collection that are looked at.
LOOKED_AT = 100_000


def check(examined: Examined) -> Iterator[RuleResult]:
    yield from _of_articles(examined)
    yield from _of_collections(examined)


def _of_collections(examined: Examined) -> Iterator[RuleResult]:
    """One result for each collection with recorded vectors, each of which has a space of its own."""
    if not (is_readable(examined.connection, "collection") and is_readable(examined.connection, "collection_record")):
        return
    collections = examined.rows(
        """
        SELECT c.name, c.table_schema, c.table_name, a.attname, pg_catalog.format_type(a.atttypid, -1)
        FROM everindex_meta.collection c
        JOIN pg_catalog.pg_attribute a
             ON a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', c.table_schema, c.table_name))
             AND a.attname = c.declaration ->> 'key' AND NOT a.attisdropped
        ORDER BY c.name
        """
    )
    for name, schema, table, key, kind in collections:
        rows = sql.Identifier(schema, table)
        ((models,),) = examined.rows(
            sql.SQL(
                "SELECT pg_catalog.array_agg(DISTINCT r.model) FROM (SELECT r.model FROM everindex_meta.collection_record r "
                "WHERE r.collection = {} AND EXISTS (SELECT FROM {} a WHERE a.{} = r.key::{}) LIMIT {}) AS r"
            ).format(sql.Literal(name), rows, sql.Identifier(key), sql.SQL(kind), sql.Literal(LOOKED_AT))
        )
        about = rows.as_string(None)
        if models is None:
            continue
        if len(models) == 1:
            yield good(f"all recorded vectors of collection {name} are of one model: {models[0]}", about=about)
            continue
        yield finding(
            f"vectors of {len(models)} models are recorded for collection {name}: {', '.join(sorted(models))}",
            about=about,
            fix=Fix(advice=f"`everindex embed --collection {name}` embeds all of them with the current model."),
        )


def _of_articles(examined: Examined) -> Iterator[RuleResult]:
    if not is_readable(examined.connection, "embedding_record"):
        return
    models = examined.rows(
        # Jumps from model to model along the index instead of reading every row.
        sql.SQL(
            """
            WITH RECURSIVE found(model, number) AS (
                (SELECT model, 1 FROM everindex_meta.embedding_record ORDER BY model LIMIT 1)
                UNION ALL
                SELECT (SELECT r.model FROM everindex_meta.embedding_record r
                        WHERE r.model > f.model ORDER BY r.model LIMIT 1), f.number + 1
                FROM found f WHERE f.model IS NOT NULL AND f.number < {models}
            ), counted AS MATERIALIZED (
                SELECT f.model, (SELECT count(*) FROM (SELECT FROM everindex_meta.embedding_record r
                                                       WHERE r.model = f.model AND {belongs} LIMIT {counted}) AS seen) AS rows
                FROM found f WHERE f.model IS NOT NULL
            )
            SELECT model, rows FROM counted WHERE rows > 0 ORDER BY model
            """
        ).format(models=sql.Literal(MODELS), counted=sql.Literal(COUNTED), belongs=_belongs(examined))
    )
    if not models:
        return
    named = ", ".join(
        f"{model} ({count_text(count, 'row') if count < COUNTED else f'{COUNTED} or more rows'})"
        for model, count in models
    )
    beside = [one for one in read_unrecorded(examined) if one.unrecorded]
    strangers = [one for one in beside if one.declared not in {model for model, _ in models}]
    if strangers:
        others = "; ".join(
            f"{one.unrecorded if one.unrecorded < COUNTED else f'{COUNTED} or more'} vectors of {one.quoted} "
            + (f"declared as of {one.declared}" if one.declared else "of an unrecorded model")
            for one in strangers
        )
        yield finding(
            f"the database mixes recorded vectors of {named} with {others}",
            fix=Fix(
                advice="`everindex model declare NAME` says which model made those without a record, after a comparison."
            ),
        )
        return
    if len(models) == 1:
        yield good(f"all recorded vectors are of one model: {named}")
        return
    yield finding(
        f"vectors of {len(models)} models are recorded: {named}",
        fix=Fix(
            advice="`everindex embed` embeds the others again with the current model; after an interruption it continues."
        ),
    )


def _belongs(examined: Examined) -> sql.Composable:
    """A condition on record `r`: its row still exists. The record of a deleted row remains and does no harm."""
    for spec in examined.declared:
        table = sql.Identifier(spec.schema, spec.table)
        if examined.rows(
            sql.SQL(
                "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({}) AND attname = 'uri' "
                "AND NOT attisdropped"
            ).format(sql.Literal(table.as_string(None)))
        ):
            return sql.SQL("EXISTS (SELECT FROM {} a WHERE a.uri = r.uri)").format(table)
    return sql.SQL("true")


RULE = Rule(
    slug="model-mixture",
    severity="critical",
    title="all vectors are of one model",
    reason="each model has its own vector space: distances between vectors of different models mean nothing, and searches "
    "silently return the wrong rows (vectorize-io/hindsight#1884, ZJU-REAL/Polaris#208).",
    check=check,
)
