"""Snippets: the parts of an article that match, marked by PostgreSQL and turned into safe HTML here.

ts_headline copies the text unchanged, so its output is only as safe as the article. It is told to mark with control
characters (which every database encoding has), and these are removed from the text first, so that no text can contain
marks of its own. Its output is escaped as a whole, and only then do the marks become <mark>.
"""

from __future__ import annotations

import html
import json
import re
import threading
import unicodedata
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache

from psycopg import sql

from everindex.articles.search.keyword.document import TextConfig
from everindex.articles.search.request.parsed_query import ParsedQuery
from everindex.articles.search.request.word_breaks import JOINTS, LETTERS_ALONE
from everindex.articles.shape.hit import Hit
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.pg.statement_texts import StatementText, text_of

#: Only the beginning of a longer text is searched, since ts_headline reads all that it is given.
MOST_CHARACTERS = 20_000
#: A text of this length is shown as a whole.
WHOLE_CHARACTERS = 280
#: The minimum part of a longer text, in whole words: a part shorter than the title above it says nothing.
LEAST_CHARACTERS = 240

#: From this many hits on, texts are prepared and marked by one thread at a time. Several threads would only compete for
#: the same interpreter, and everything else in it, above all a server's event loop, would wait for each of them in
#: turn.
MANY_HITS = 100
_turn_of_many = threading.Lock()

_START, _STOP, _GAP = "\x01", "\x02", "\x08"
#: ts_headline uses PostgreSQL's parser too: each of these is replaced by a control character.
_DISGUISES = dict(zip(JOINTS, "\x03\x04\x05\x06\x07\x0e\x0f", strict=True))
#: Put between letters of scripts without spaces, where the document has a space.
_APART = "\x10"
_ALONE = re.compile(f"[{LETTERS_ALONE}]")
#: Full-width forms of ASCII; other NFKC forms are shown unchanged and not marked.
_HALF_WIDTH = {0xFEE0 + code: code for code in range(0x21, 0x7F)}
_HIDDEN = str.maketrans(dict.fromkeys((_START, _STOP, _GAP, _APART, *_DISGUISES.values())) | _DISGUISES)
_SHOWN = str.maketrans({disguise: character for character, disguise in _DISGUISES.items()} | {_GAP: " … "})
_PLAIN = str.maketrans(dict.fromkeys((_START, _STOP)))
_MARKED = str.maketrans({_START: "<mark>", _STOP: "</mark>"})

_MARKS = f'StartSel="{_START}", StopSel="{_STOP}"'
_WHOLE = f"{_MARKS}, HighlightAll=true"
_PART = f'{_MARKS}, MaxFragments=2, MinWords=14, MaxWords=28, FragmentDelimiter="{_GAP}"'

_HEADLINES = """
    SELECT pg_catalog.ts_headline({config}, t.title, q.query, {whole}),
           CASE WHEN pg_catalog.length(t.summary) <= {short} THEN pg_catalog.ts_headline({config}, t.summary, q.query, {whole})
                ELSE pg_catalog.ts_headline({config}, t.summary, q.query, {part}) END
    FROM ROWS FROM (pg_catalog.jsonb_to_recordset(%(articles)s::pg_catalog.jsonb) AS (title text, summary text))
         WITH ORDINALITY AS t (title, summary, number),
         pg_catalog.to_tsquery({config}, %(text)s) AS q (query)
    ORDER BY t.number
"""


def with_snippets(connection: Connection, config: TextConfig, words: ParsedQuery, hits: Sequence[Hit]) -> list[Hit]:
    """The hits with title and summary as HTML, with the matches of `words` in <mark>.

    A long summary is cut to the parts around the matches, or to its beginning. Reads only its arguments; one round
    trip, and about 0.1 ms per hit. Raises what statements raise.
    """
    if not hits:
        return []
    texts = [title_and_body(hit) for hit in hits]
    passages = [hit.passage for hit in hits if hit.passage is not None]
    texts += [(None, passage.text) for passage in passages]
    turn: AbstractContextManager[object] = _turn_of_many if len(hits) >= MANY_HITS else nullcontext()
    with turn:
        parameters = {"text": words.query, "articles": as_json(texts)}
    with translate_errors("marking matches"):
        rows = _statement(config).run(connection, parameters)
    with turn:
        marked = [
            (
                None if title is None else marked_html(title),
                None if body is None else marked_html(_excerpt(body, text or "")),
            )
            for (title, body), (_, text) in zip(rows, texts, strict=True)
        ]
        of_passages = iter(marked[len(hits) :])
        return [
            replace(
                hit,
                title_snippet=title,
                snippet=body,
                passage=None if hit.passage is None else replace(hit.passage, snippet=next(of_passages)[1]),
            )
            for hit, (title, body) in zip(hits, marked[: len(hits)], strict=True)
        ]


def title_and_body(hit: Hit) -> tuple[str | None, str | None]:
    """The title of a hit, where its collection has one, and its other text columns as one text; None where they are empty."""
    count = hit.columns.texts
    if count == 2:
        return hit.values[1], hit.values[2]
    if count <= 1:
        return None, hit.values[1] if count else None
    return hit.values[1], "\n\n".join(text for text in hit.values[2 : count + 1] if text) or None


def as_json(texts: Sequence[tuple[str | None, str | None]]) -> str:
    """Titles and bodies, made safe for ts_headline, as JSON for jsonb_to_recordset."""
    return json.dumps([{"title": _hidden(title), "summary": _hidden(body)} for title, body in texts])


def marked_html(headline: str) -> str:
    """The output of ts_headline as HTML: everything escaped, the marks as <mark>."""
    if _APART in headline:
        headline = headline.replace(_APART, "").replace(_STOP + _START, "")
    return html.escape(headline.translate(_SHOWN)).translate(_MARKED)


def _excerpt(headline: str, text: str) -> str:
    """The output of ts_headline, extended to the minimum length. An ellipsis marks text left out at either end, which
    ts_headline marks only between parts."""
    whole = (_hidden(text) or "").strip()
    if len(text) > WHOLE_CHARACTERS:
        headline = _long_enough(headline.strip(), whole)
    shown = headline.translate(_PLAIN)
    if not shown.strip():
        return headline
    begins = whole.startswith(shown.strip()[:40])
    ends = len(text) <= MOST_CHARACTERS and whole.endswith(shown.strip()[-40:])
    return f"{'' if begins else '… '}{headline}{'' if ends else ' …'}"


def _long_enough(headline: str, whole: str) -> str:
    """A single short part extended to LEAST_CHARACTERS, backwards where the text ends; its marks stay."""
    shown = headline.translate(_PLAIN)
    begin = -1 if _GAP in shown else whole.find(shown)
    if begin < 0 or len(shown) >= LEAST_CHARACTERS:
        return headline
    end = begin + len(shown)
    to = _word_end(whole, min(end + LEAST_CHARACTERS - len(shown), len(whole)))
    since = _word_begin(whole, max(0, min(begin, to - LEAST_CHARACTERS)))
    return f"{whole[since:begin]}{headline}{whole[end:to]}"


#: A longer run of characters is not treated as a word and is cut.
_WORD = 40


def _word_end(text: str, at: int) -> int:
    last = min(at + _WORD, len(text))
    return next((place for place in range(at, last) if text[place].isspace()), last)


def _word_begin(text: str, at: int) -> int:
    first = max(at - _WORD, 0)
    return next((place for place in range(at, first, -1) if text[place - 1].isspace()), first)


def _hidden(text: str | None) -> str | None:
    """The text without our mark characters, and without anything that ts_headline takes for a tag."""
    if text is None:
        return None
    text = text[:MOST_CHARACTERS].translate(_HIDDEN)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).translate(_HALF_WIDTH)
    return _ALONE.sub(rf"\g<0>{_APART}", text)


@cache
def _statement(config: TextConfig) -> StatementText:
    composed = sql.SQL(_HEADLINES).format(
        config=config.constant, whole=sql.Literal(_WHOLE), part=sql.Literal(_PART), short=sql.Literal(WHOLE_CHARACTERS)
    )
    return text_of(composed)
