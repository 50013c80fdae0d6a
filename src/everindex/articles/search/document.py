"""What of an article is searched by keyword, and what is a word? One expression, for the search and for its index."""

from __future__ import annotations

from psycopg import sql

from everindex.articles.search.text_config import TextConfig

INDEX_NAME = "articles_text_search_idx"
#: Words are found in so many characters of title and summary: a tsvector holds at most 1 MB (PostgreSQL: Text Search
#: Limitations), and an article with more must not fail. The densest text that was tried needs less than half of that.
TITLE_CHARACTERS = 5_000
SUMMARY_CHARACTERS = 50_000
#: To PostgreSQL's parser `asyncio.Queue`, `read/write` and `a@b.org` are one word each, a host, a path and an address, and
#: whoever looks for one half finds nothing. Articles and queries are read with a space in place of each of these; on the
#: sample that finds a third more of the articles that were looked for (docs/measurements/hybrid.md). What looks like a tag is
#: passed over by the parser, so `list<int>` would lose its `<int>`, and after `<script>` all the text up to its end.
JOINTS = "./@<>"


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
    """The parameter `text`, which is an `Asked.query`, as a tsquery."""
    return sql.SQL("pg_catalog.websearch_to_tsquery({}, %(text)s)").format(config.constant)
