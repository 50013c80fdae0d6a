"""Snippets: the part of an article that answers; PostgreSQL marks the words, here they become safe HTML.

ts_headline copies the text as it is, so its output is as safe as an article is. It is asked to mark with control characters
(which every encoding of a database has), and these are taken out of the text before, so that no text can bring marks of
its own; what comes back is escaped as a whole, and only then the marks become <mark>.
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

from everindex.articles.model import Hit
from everindex.articles.search.keyword.document import TextConfig
from everindex.articles.search.parsed_query import ParsedQuery
from everindex.articles.search.word_breaks import JOINTS, LETTERS_ALONE
from everindex.pg import roundtrip
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors

#: Of a longer text only the beginning is looked through: ts_headline reads all that it gets.
MOST_CHARACTERS = 20_000
#: A text of this length is shown as a whole.
WHOLE_CHARACTERS = 280
#: Of a longer one at least so much, in whole words: a passage shorter than the title above it tells nothing.
LEAST_CHARACTERS = 240

#: Texts of so many hits are prepared and marked by one thread at a time. Several would only take turns for the same
#: interpreter, and whatever else runs in it, a server's event loop above all, would wait for a turn of each of them.
MANY_HITS = 100
_turn_of_many = threading.Lock()

_START, _STOP, _GAP = "\x01", "\x02", "\x08"
#: ts_headline reads with PostgreSQL's parser, too: it sees a control character in place of each of these.
_DISGUISES = dict(zip(JOINTS, "\x03\x04\x05\x06\x07\x0e\x0f", strict=True))
#: It goes between letters of scripts without spaces, as a space does in the document.
_APART = "\x10"
_ALONE = re.compile(f"[{LETTERS_ALONE}]")
#: Full-width forms of ASCII; other forms that NFKC knows are shown as they are, and not marked.
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
    """The hits with title and summary as HTML, and what `words` look for in <mark>.

    A long summary is cut down to the passages around what was found, or to its beginning. Reads nothing but its arguments;
    one round trip, and about 0.1 ms for each hit. Raises what statements raise.
    """
    if not hits:
        return []
    statement, names = _statement(config)
    turn: AbstractContextManager[object] = _turn_of_many if len(hits) >= MANY_HITS else nullcontext()
    with turn:
        parameters = {"text": words.query, "articles": as_json(hits)}
    with translate_errors("marking what was found"):
        rows = roundtrip.run(connection, (), statement, [parameters[name] for name in names])
    with turn:
        return [
            replace(
                hit,
                title_snippet=None if row[0] is None else marked_html(row[0]),
                snippet=None if row[1] is None else marked_html(_passage(row[1], hit.summary or "")),
            )
            for hit, row in zip(hits, rows, strict=True)
        ]


def as_json(hits: Sequence[Hit]) -> str:
    """Titles and summaries as they may be given to ts_headline, for jsonb_to_recordset."""
    return json.dumps([{"title": _hidden(hit.title), "summary": _hidden(hit.summary)} for hit in hits])


def marked_html(headline: str) -> str:
    """What ts_headline gave, as HTML: everything escaped, the marks as <mark>."""
    if _APART in headline:
        headline = headline.replace(_APART, "").replace(_STOP + _START, "")
    return html.escape(headline.translate(_SHOWN)).translate(_MARKED)


def _passage(headline: str, text: str) -> str:
    """What ts_headline gave, long enough; a passage out of the middle shows that it is one, which ts_headline says only
    between passages."""
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
    """A single short passage goes on to LEAST_CHARACTERS, and begins earlier where the text ends before; its marks stay."""
    shown = headline.translate(_PLAIN)
    begin = -1 if _GAP in shown else whole.find(shown)
    if begin < 0 or len(shown) >= LEAST_CHARACTERS:
        return headline
    end = begin + len(shown)
    to = _word_end(whole, min(end + LEAST_CHARACTERS - len(shown), len(whole)))
    since = _word_begin(whole, max(0, min(begin, to - LEAST_CHARACTERS)))
    return f"{whole[since:begin]}{headline}{whole[end:to]}"


#: What is longer is no word; it is cut.
_WORD = 40


def _word_end(text: str, at: int) -> int:
    last = min(at + _WORD, len(text))
    return next((place for place in range(at, last) if text[place].isspace()), last)


def _word_begin(text: str, at: int) -> int:
    first = max(at - _WORD, 0)
    return next((place for place in range(at, first, -1) if text[place - 1].isspace()), first)


def _hidden(text: str | None) -> str | None:
    """The text without marks of ours, and without anything that ts_headline takes for a tag."""
    if text is None:
        return None
    text = text[:MOST_CHARACTERS].translate(_HIDDEN)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text).translate(_HALF_WIDTH)
    return _ALONE.sub(rf"\g<0>{_APART}", text)


@cache
def _statement(config: TextConfig) -> tuple[str, tuple[str, ...]]:
    composed = sql.SQL(_HEADLINES).format(
        config=config.constant, whole=sql.Literal(_WHOLE), part=sql.Literal(_PART), short=sql.Literal(WHOLE_CHARACTERS)
    )
    return roundtrip.positional(composed.as_string(None))
