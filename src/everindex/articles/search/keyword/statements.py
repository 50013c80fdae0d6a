"""The statements of keyword search: which rows match, what words rows have, and the rows of an answer."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from everindex.articles.search.filters import AnyFilters, where
from everindex.articles.search.keyword.document import document, query
from everindex.articles.search.keyword.postings import TITLE_WEIGHT
from everindex.articles.search.keyword.state import Known

#: The hashes of the stems of the query, 4 bytes each, and of its items with their numbers, 8 bytes each.
#: Of each matching row its place and its transaction, 10 bytes.
_PLACES = """
    SELECT pg_catalog.pg_relation_filenode({regclass}::pg_catalog.regclass)::pg_catalog.int8,
           (SELECT pg_catalog.string_agg(pg_catalog.int4send(pg_catalog.hashtext(stem)), ''::pg_catalog.bytea ORDER BY stem)
            FROM pg_catalog.unnest(pg_catalog.tsvector_to_array(
                 pg_catalog.to_tsvector({config}, %(ranked)s::pg_catalog.text))) AS asked (stem)),
           (SELECT pg_catalog.string_agg(pg_catalog.int4send(item.number::pg_catalog.int4) OPERATOR(pg_catalog.||)
                                         pg_catalog.int4send(pg_catalog.hashtext(stem)), ''::pg_catalog.bytea)
            FROM ROWS FROM (pg_catalog.jsonb_to_recordset(%(items)s::pg_catalog.jsonb)
                            AS (query text, words text)) WITH ORDINALITY AS item (query, words, number),
                 pg_catalog.unnest(pg_catalog.tsvector_to_array(
                      pg_catalog.to_tsvector({config}, item.words))) AS one (stem)),
           (SELECT pg_catalog.string_agg(pg_catalog.tidsend(matching.ctid) OPERATOR(pg_catalog.||)
                                         pg_catalog.xidsend(matching.xmin), ''::pg_catalog.bytea)
            FROM (SELECT ctid, xmin FROM {table}
                  WHERE {document} OPERATOR(pg_catalog.@@) {query}{condition} LIMIT {most}) AS matching)
"""

_WORD = """(SELECT pg_catalog.string_agg(pg_catalog.int4send(pg_catalog.hashtext(word.lexeme)) OPERATOR(pg_catalog.||)
               pg_catalog.int2send(pg_catalog.cardinality(word.positions)::pg_catalog.int2) OPERATOR(pg_catalog.||)
               pg_catalog.int2send(pg_catalog.cardinality(pg_catalog.array_positions(word.weights, 'A'))::pg_catalog.int2),
               ''::pg_catalog.bytea) FROM pg_catalog.unnest({document}) AS word)"""
#: The words of rows: place, transaction and number of words of each row, 14 bytes; then the words, 8 bytes each.
_WORDS = """
    SELECT pg_catalog.pg_relation_filenode({regclass}::pg_catalog.regclass)::pg_catalog.int8,
           pg_catalog.string_agg(pg_catalog.tidsend(one.ctid) OPERATOR(pg_catalog.||) pg_catalog.xidsend(one.xmin)
               OPERATOR(pg_catalog.||) pg_catalog.int4send(coalesce(pg_catalog.octet_length(one.words), 0)
               OPERATOR(pg_catalog./) 8), ''::pg_catalog.bytea),
           pg_catalog.string_agg(one.words, ''::pg_catalog.bytea)
    FROM (SELECT ctid, xmin, {words} AS words FROM {table} WHERE {which} OFFSET 0) AS one
"""
#: The same of matching rows, with keys instead of places and only the words of the query; and each text's length. OFFSET 0
#: computes the document once and not for each use.
_WORDS_OF_MATCHES = """
    SELECT matching."everindex key", counted.length, counted.words
    FROM (SELECT pg_catalog.tsvector_to_array(pg_catalog.to_tsvector({config}, %(ranked)s::pg_catalog.text)) AS stems
          OFFSET 0) AS asked,
         (SELECT *, {document} AS "everindex document" FROM (
              SELECT {key} AS "everindex key", {texts} FROM {table}
              WHERE {document} OPERATOR(pg_catalog.@@) {query}{condition} LIMIT {most}) AS found OFFSET 0) AS matching,
         LATERAL (SELECT pg_catalog.sum(word.times)::pg_catalog.int4 AS length,
                         pg_catalog.string_agg(pg_catalog.int4send(pg_catalog.hashtext(word.lexeme))
                             OPERATOR(pg_catalog.||) pg_catalog.int4send(word.times), ''::pg_catalog.bytea)
                             FILTER (WHERE word.lexeme OPERATOR(pg_catalog.=) ANY (asked.stems)) AS words
                  FROM (SELECT lexeme, pg_catalog.cardinality(positions) OPERATOR(pg_catalog.+) ({title_more}
                               OPERATOR(pg_catalog.*) pg_catalog.cardinality(pg_catalog.array_positions(weights, 'A'))) AS times
                        FROM pg_catalog.unnest(matching."everindex document")) AS word) AS counted
"""
#: Of each word or phrase the hashes of its stems, and how many rows have it, counted up to a limit.
_ITEMS = """
    SELECT coalesce((SELECT pg_catalog.string_agg(pg_catalog.int4send(pg_catalog.hashtext(stem)), ''::pg_catalog.bytea)
                     FROM pg_catalog.unnest(pg_catalog.tsvector_to_array(
                          pg_catalog.to_tsvector({config}, item.words))) AS stem), ''::pg_catalog.bytea),
           {count}
    FROM ROWS FROM (pg_catalog.jsonb_to_recordset(%(items)s::pg_catalog.jsonb)
                    AS (query text, words text)) WITH ORDINALITY AS item (query, words, number)
    ORDER BY item.number
"""
_COUNT = """(SELECT pg_catalog.count(*) FROM (SELECT FROM {table}
            WHERE {document} OPERATOR(pg_catalog.@@) pg_catalog.to_tsquery({config}, item.query) LIMIT {most}) AS counted)"""
_ROWS = "SELECT {columns}, {mark}{distance} FROM {table} WHERE {which}"


def matching(known: Known, filters: AnyFilters) -> sql.Composed:
    """The condition ` AND …` that a row matches. Parameters: `text` (a tsquery), those of the filters."""
    condition, _ = where(known.table, filters)
    return sql.SQL(" AND {document} OPERATOR(pg_catalog.@@) {query}{condition}").format(
        **_common(known), condition=condition
    )


def matching_places(known: Known, filters: AnyFilters, *, most: int) -> sql.Composed:
    """Parameters: `text` (a tsquery), `ranked` (plain words), `items` (JSON of {query, words}), those of the filters. One
    row: the table's filenode, the hashes of the stems of `ranked` and of the items, the places of at most `most` matching
    rows."""
    condition, _ = where(known.table, filters)
    return sql.SQL(_PLACES).format(**_common(known), condition=condition, most=sql.Literal(most))


def words_of_rows(known: Known, which: sql.SQL) -> sql.Composed:
    """One row: filenode, rows (postings.ROW), words (postings.WORD) of the rows for which `which` holds."""
    common = _common(known)
    return sql.SQL(_WORDS).format(**common, words=sql.SQL(_WORD).format(document=common["document"]), which=which)


OF_PLACES = sql.SQL("ctid = ANY (%(places)s::pg_catalog.tid[])")
OF_BLOCKS = sql.SQL("ctid >= %(first)s::pg_catalog.tid AND ctid < %(beyond)s::pg_catalog.tid")


def words_of_matches(known: Known, filters: AnyFilters, *, most: int) -> sql.Composed:
    """Parameters as `matching_places`. Of each of at most `most` matching rows the key as text, the text's length, and the
    hash and number of times of each of the query's words."""
    condition, _ = where(known.table, filters)
    return sql.SQL(_WORDS_OF_MATCHES).format(
        **_common(known),
        key=known.table.key_text,
        texts=sql.SQL(", ").join(map(sql.Identifier, known.table.spec.text)),
        condition=condition,
        most=sql.Literal(most),
        title_more=sql.Literal(TITLE_WEIGHT - 1),
    )


def stems_of_items(known: Known, *, count_up_to: int) -> sql.Composed:
    """Parameter `items`: JSON of {query, words}. Of each the hashes of its stems, and the number of rows that have it, up to
    `count_up_to`."""
    common = _common(known)
    return sql.SQL(_ITEMS).format(**common, count=sql.SQL(_COUNT).format(**common, most=sql.Literal(count_up_to)))


def rows_at_places(known: Known, *, with_distance: bool) -> sql.Composed:
    """Parameters `places`, and `vector` for the distance. The columns of a hit, then place and transaction (10 bytes)."""
    mark = sql.SQL("pg_catalog.tidsend(ctid) OPERATOR(pg_catalog.||) pg_catalog.xidsend(xmin)")
    return _rows(known, mark, OF_PLACES, with_distance=with_distance)


def rows_with_keys(known: Known, *, with_distance: bool) -> sql.Composed:
    """Parameters `keys` (JSON), `text`, and `vector` for the distance. The columns of a hit, then its key as text, of those
    of the rows that match."""
    table = known.table
    which = sql.SQL(
        "{key} IN (SELECT given.key::{key_type} FROM pg_catalog.jsonb_array_elements_text(%(keys)s::pg_catalog.jsonb) "
        "AS given (key)) AND {document} OPERATOR(pg_catalog.@@) {query}"
    ).format(key=table.key, key_type=table.key_type, **_common(known))
    return _rows(known, table.key_text, which, with_distance=with_distance)


def first_by_key(known: Known, *, most: int) -> sql.Composed:
    """Parameter `places`. The places of the `most` rows with the smallest keys among them."""
    return sql.SQL("SELECT ctid::pg_catalog.text FROM {table} WHERE {which} ORDER BY {key} LIMIT {most}").format(
        table=known.table.identifier, which=OF_PLACES, key=known.table.key_text, most=sql.Literal(most)
    )


def _rows(known: Known, mark: sql.Composable, which: sql.Composable, *, with_distance: bool) -> sql.Composed:
    table = known.table
    distance = (
        sql.SQL(", {} {} {}").format(table.vector, table.distance, table.query_vector) if with_distance else sql.SQL("")
    )
    return sql.SQL(_ROWS).format(
        columns=table.selected, mark=mark, distance=distance, table=table.identifier, which=which
    )


def _common(known: Known) -> dict[str, Any]:
    table = known.table
    return {
        "regclass": sql.Literal(table.identifier.as_string(None)),
        "config": known.config.constant,
        "table": table.identifier,
        "document": document(known.config, table.spec),
        "query": query(known.config),
    }
