"""The document of keyword search: one immutable expression over the text columns, used by the search and by its index.

A word written with a joint (`COVID-19`, `TCP/IP`, `node.js`, `user_id`) is found by its parts, and with the joints of
WITHIN_WORDS also as one word (`covid19`, `tcpip`, `oreilly`, but not `userid`); `C++` and `C#` are words of their own.
In a UTF8 database, letters are compared in normal form NFKC, and text without spaces between words (Chinese, Japanese,
Korean, Thai …) is indexed letter by letter, with a query as a phrase of letters; in other encodings both are read as
stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from everindex.articles.declared import ARTICLES
from everindex.articles.search.request.word_breaks import JOINTS, LETTERS_ALONE, WITHIN_WORDS
from everindex.articles.shape.spec import CollectionSpec, invalid
from everindex.errors import SettingInvalid
from everindex.index.catalog.generations import next_name, previous_name
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.statement_texts import text_of

SETTING = "EVERINDEX_TEXT_SEARCH"
INDEX_NAME = "articles_text_search_idx"
#: The names of the index, its successor and its predecessor during a replacement.
NEXT_NAME, PREVIOUS_NAME = next_name(INDEX_NAME), previous_name(INDEX_NAME)
GENERATION_NAMES = (INDEX_NAME, NEXT_NAME, PREVIOUS_NAME)


def generation_names(name: str) -> tuple[str, str, str]:
    """The names of an index of words, its successor and its predecessor during a replacement."""
    return name, next_name(name), previous_name(name)


#: Only this many characters of title and summary are indexed: a tsvector holds at most 1 MB (PostgreSQL: Text Search
#: Limitations), and a longer article must not fail. The densest text tested needs less than half of that.
TITLE_CHARACTERS = 5_000
SUMMARY_CHARACTERS = 50_000

# A word with a joint in it. Most texts have one; a text without one costs nothing extra.
_HAS_JOINT = "[[:alnum:]](?:[-/&''+][[:alnum:]+]|#)"
# Runs of words without a joint. Spaces are doubled first, so that one match ends where the next begins; a lookahead
# would take three times as long.
_WITHOUT_JOINT = r"(?:\s[^-/&''+#\s]+\s)+"

_WORDS = "pg_catalog.to_tsvector({config}, pg_catalog.translate({separated}, {joints}, {spaces}))"
_JOINED = """
    CASE WHEN {text} OPERATOR(pg_catalog.~) '{has_joint}'
    THEN pg_catalog.to_tsvector({{config}}, pg_catalog.translate(pg_catalog.regexp_replace(pg_catalog.replace(
        pg_catalog.regexp_replace(
            (' ' OPERATOR(pg_catalog.||) pg_catalog.replace({text}, ' ', '  ')) OPERATOR(pg_catalog.||) ' ',
            '{without_joint}', ' ', 'g'),
        '++', 'plusplus '), '([[:alnum:]])#', '\\1sharp ', 'g'), {{within}}, ''))
    ELSE ''::pg_catalog.tsvector END"""
_IS_ASCII = "pg_catalog.octet_length({column}::text) OPERATOR(pg_catalog.=) pg_catalog.length({column}::text)"
_LEFT = "pg_catalog.left(coalesce({column}::text, ''), {most})"
_NORMAL = "pg_catalog.left(pg_catalog.normalize({left}, 'NFKC'), {most})".replace("{left}", _LEFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """A text search configuration of the server: parser, stop words and stems of a language."""

    schema: str
    """Empty in a script, where the search_path applies."""

    name: str
    is_utf8: bool
    """Whether the database encoding is UTF8, the only one in which PostgreSQL can normalise text."""

    @property
    def constant(self) -> sql.Composed:
        """A constant of type regconfig, with which to_tsvector is immutable and can be indexed."""
        name = sql.Identifier(self.schema, self.name) if self.schema else sql.Identifier(self.name)
        return sql.SQL("{}::pg_catalog.regconfig").format(sql.Literal(name.as_string(None)))


def find_config(connection: Connection, name: str) -> TextConfig:
    """The configuration with that name, resolved as SQL does: with a schema, or in the search_path. Reads only.

    Raises SettingInvalid, which lists the existing names.
    """
    with translate_errors("reading the text search configurations"):
        known = connection.execute(
            """
            SELECT n.nspname, c.cfgname, pg_catalog.pg_ts_config_is_visible(c.oid),
                   pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
            FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace ORDER BY 2, 1
            """
        ).fetchall()
    schema, _, wanted = name.strip().rpartition(".")
    for given in (wanted, wanted.lower()):
        for found_schema, found, is_visible, is_utf8 in known:
            if found == given and (found_schema == schema if schema else is_visible):
                return TextConfig(schema=found_schema, name=found, is_utf8=is_utf8)
    names = ", ".join(
        found if is_visible else f"{found_schema}.{found}" for found_schema, found, is_visible, _ in known
    )
    raise SettingInvalid(
        f"{SETTING} is not a text search configuration of this server: {name[:60]!r}.",
        why=f"the database has {names}.",
        next_step=f"set {SETTING} to one of them (simple knows no language), or CREATE TEXT SEARCH CONFIGURATION.",
    )


def document(config: TextConfig, collection: CollectionSpec = ARTICLES) -> sql.Composed:
    """The searchable text of a row, as an immutable expression over its columns; words of the title weigh more."""
    title, bodies = _title_and_bodies(collection)
    parts = [] if title is None else [_title(config, title)]
    parts += [
        sql.SQL("pg_catalog.setweight({} OPERATOR(pg_catalog.||) {}, 'B')").format(
            _words(config, column, SUMMARY_CHARACTERS), _joined(config, column, SUMMARY_CHARACTERS)
        )
        for column in bodies
    ]
    return sql.SQL("({})").format(sql.SQL(" OPERATOR(pg_catalog.||) ").join(parts))


def ranking_document(config: TextConfig, collection: CollectionSpec = ARTICLES) -> sql.Composed:
    """The document without the joined words of the longer texts, which take a third of the time: what rows were ranked by
    before their words were in memory, and what that is compared with (bench/words.py)."""
    title, bodies = _title_and_bodies(collection)
    parts = [] if title is None else [_title(config, title)]
    parts += [
        sql.SQL("pg_catalog.setweight({}, 'B')").format(_words(config, column, SUMMARY_CHARACTERS)) for column in bodies
    ]
    return sql.SQL("({})").format(sql.SQL(" OPERATOR(pg_catalog.||) ").join(parts))


def query(config: TextConfig) -> sql.Composed:
    """The parameter `text`, a `ParsedQuery.query`, as a tsquery."""
    return sql.SQL("pg_catalog.to_tsquery({}, %(text)s)").format(config.constant)


def has_words(connection: Connection, config: TextConfig, text: str) -> bool:
    """False when the query has stop words only, or no letter and no digit."""
    statement = text_of(sql.SQL("SELECT pg_catalog.numnode({}) > 0").format(query(config)))
    return bool(statement.run(connection, {"text": text})[0][0])


def mark() -> sql.Composed:
    """A constant in this release's document, as pg_get_indexdef prints it: an index without it is from another
    release."""
    return sql.SQL("pg_catalog.quote_literal({}) || '::text'").format(sql.Literal(JOINTS))


def _title_and_bodies(collection: CollectionSpec) -> tuple[str | None, tuple[str, ...]]:
    """The column of the title, where there is one, and the others. Raises CollectionInvalid for a collection without text."""
    if not collection.text:
        raise invalid(
            collection.name, "it has no text column", "a search by words reads one.", "declare its text columns."
        )
    return (collection.text[0], collection.text[1:]) if collection.has_title else (None, collection.text)


def _title(config: TextConfig, column: str) -> sql.Composed:
    return sql.SQL("pg_catalog.setweight({} OPERATOR(pg_catalog.||) {}, 'A')").format(
        _words(config, column, TITLE_CHARACTERS), _joined(config, column, TITLE_CHARACTERS)
    )


def _words(config: TextConfig, column: str, most: int) -> sql.Composed:
    text = sql.SQL(_LEFT)
    if config.is_utf8:
        apart = f"pg_catalog.regexp_replace({_NORMAL}, '([{LETTERS_ALONE}])', ' \\1 ', 'g')"
        text = sql.SQL(f"CASE WHEN {_IS_ASCII} THEN {_LEFT} ELSE {apart} END")
    return sql.SQL(_WORDS).format(
        config=config.constant,
        separated=text.format(column=sql.Identifier(column), most=sql.Literal(most)),
        joints=sql.Literal(JOINTS),
        spaces=sql.Literal(" " * len(JOINTS)),
    )


def _joined(config: TextConfig, column: str, most: int) -> sql.Composed:
    text = f"CASE WHEN {_IS_ASCII} THEN {_LEFT} ELSE {_NORMAL} END" if config.is_utf8 else _LEFT
    joined = _JOINED.format(text=f"({text})", has_joint=_HAS_JOINT, without_joint=_WITHOUT_JOINT)
    return sql.SQL(joined).format(
        config=config.constant,
        column=sql.Identifier(column),
        most=sql.Literal(most),
        within=sql.Literal(WITHIN_WORDS),
    )
