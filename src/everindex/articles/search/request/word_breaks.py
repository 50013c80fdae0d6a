"""Word breaks: the characters at which articles and queries are split before PostgreSQL's parser reads them.

The document of keyword search and the parsed query must use the same ones, or one would not find what the other joins.
Changing them changes the expression of the text index, which is then rebuilt.
"""

from __future__ import annotations

#: To PostgreSQL's parser `asyncio.Queue`, `read/write` and `a@b.org` are one word each (a host, a path and an address),
#: so a search for one half finds nothing; `COVID-19` is `covid` and the number -19. Articles and queries are read with
#: a space in place of each of these characters; on the sample this finds a third more of the wanted articles
#: (docs/measurements/hybrid.md). The parser skips whatever looks like a tag, so `list<int>` would lose its `<int>`, and
#: `<script>` all the text up to its closing tag.
JOINTS = "./@<>-+"
#: Where these stand between two letters or digits, the joined word is indexed as well: others write `email` for
#: `e-mail`, `ATT` for `AT&T`. With the dot and the underscore included, the index of the sample, whose titles are names
#: of functions, grew by 40 %.
WITHIN_WORDS = "-/&'"
#: Letters of scripts that put no spaces between words, or attach endings to them: Hangul, CJK, kana, bopomofo, Thai,
#: Lao, Burmese, Khmer. The text is valid in a bracket expression of both PostgreSQL (`\\uXXXX`, `\\UXXXXXXXX`) and
#: Python.
LETTERS_ALONE = (
    r"\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f"
    r"\u3031-\u303c\u3041-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7fb"
    r"\uf900-\ufaff\U00020000-\U000323af"
)
