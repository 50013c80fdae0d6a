"""What of an article is searched by keyword, and what is a word? One expression, for the search and for its index."""

from __future__ import annotations

import re

from psycopg import sql

from everindex.articles.search.text_config import TextConfig

INDEX_NAME = "articles_text_search_idx"
#: Words are found in so many characters of title and summary: a tsvector holds at most 1 MB (PostgreSQL: Text Search
#: Limitations), and an article with more must not fail. The densest text that was tried needs less than half of that.
TITLE_CHARACTERS = 5_000
SUMMARY_CHARACTERS = 50_000
#: To PostgreSQL's parser `asyncio.Queue`, `read/write` and `a@b.org` are one word each, a host, a path and an address, and
#: whoever looks for one half finds nothing. Articles and queries are read with a space in place of each of these; on the
#: sample that finds a third more of the articles that were looked for (docs/measurements/hybrid.md).
JOINTS = "./@"
_APART = str.maketrans(JOINTS, " " * len(JOINTS))
_JOINED = re.compile(rf"\S*[{re.escape(JOINTS)}]\S*")


def document(config: sql.Composed) -> sql.Composed:
    """What is searched of an article, as an immutable expression over its columns: words of the title weigh more. `config`
    is a constant of type regconfig."""
    words = sql.SQL(
        "pg_catalog.setweight(pg_catalog.to_tsvector({config}, "
        "pg_catalog.translate(pg_catalog.left(coalesce({column}::text, ''), {most}), {joints}, {spaces})), {weight})"
    )
    parts = [
        words.format(
            config=config,
            column=sql.Identifier(column),
            most=sql.Literal(most),
            joints=sql.Literal(JOINTS),
            spaces=sql.Literal(" " * len(JOINTS)),
            weight=sql.Literal(weight),
        )
        for column, most, weight in (("title", TITLE_CHARACTERS, "A"), ("summary", SUMMARY_CHARACTERS, "B"))
    ]
    return sql.SQL("({} OPERATOR(pg_catalog.||) {})").format(*parts)


def query(config: TextConfig) -> sql.Composed:
    """The parameter `text` as a tsquery. websearch_to_tsquery has no syntax errors."""
    return sql.SQL("pg_catalog.websearch_to_tsquery({}, %(text)s)").format(config.constant)


def words_of(text: str) -> str:
    """The text of a search, in websearch syntax, with the words that the document has: `asyncio.Queue` as a phrase of two.

    As PostgreSQL takes it: a space for NUL, and `?` for half of a surrogate pair.
    """
    quoted = text.replace("\0", " ").encode("utf-8", "replace").decode().split('"')
    # Every other part stands in quotes, and is a phrase already.
    return '"'.join(part.translate(_APART) if n % 2 else _JOINED.sub(_phrase, part) for n, part in enumerate(quoted))


def _phrase(joined: re.Match[str]) -> str:
    """A minus before it is one before all of it."""
    minus = "-" if joined[0].startswith("-") else ""
    words = joined[0].removeprefix("-").translate(_APART).split()
    return minus + (words[0] if len(words) == 1 else f'"{" ".join(words)}"') if words else ""
