"""Where a word ends: the characters at which articles and queries are taken apart before PostgreSQL's parser reads them.

The document of keyword search and the reading of a query go by the same ones, or what one joins the other would not find.
A change of them changes the expression of the index of the words, which is then replaced.
"""

from __future__ import annotations

#: To PostgreSQL's parser `asyncio.Queue`, `read/write` and `a@b.org` are one word each, a host, a path and an address, and
#: whoever looks for one half finds nothing; `COVID-19` is `covid` and the number -19. Articles and queries are read with a
#: space in place of each of these; on the sample that finds a third more of the articles that were looked for
#: (docs/measurements/hybrid.md). What looks like a tag is passed over by the parser, so `list<int>` would lose its `<int>`, and
#: after `<script>` all the text up to its end.
JOINTS = "./@<>-+"
#: Between two letters or digits these make one word of two, too: others write `email` for `e-mail`, `ATT` for `AT&T`. With a dot
#: and an underscore the index of the sample, whose titles are names of functions, grew by 40 %.
WITHIN_WORDS = "-/&'"
#: Letters of scripts that do not put spaces between words, or put endings to them: Hangul, CJK, kana, bopomofo,
#: Thai, Lao, Burmese, Khmer. As a bracket expression of PostgreSQL (`\\uXXXX`, `\\UXXXXXXXX`) and of Python alike.
LETTERS_ALONE = (
    r"\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u302f"
    r"\u3031-\u303c\u3041-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7fb"
    r"\uf900-\ufaff\U00020000-\U000323af"
)
