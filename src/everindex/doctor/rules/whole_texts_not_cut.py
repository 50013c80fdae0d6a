"""Rule: the whole texts of articles are cut into passages, and no passage is of a text that is gone."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from everindex.doctor.examined import Examined
from everindex.doctor.rule import Fix, Rule, RuleResult, finding, good


def check(examined: Examined) -> Iterator[RuleResult]:
    tables = {spec.table: spec.schema for spec in examined.declared if spec.table in ("articles", "article_passage")}
    if len(tables) < 2:
        return  # whoever has turned passages off, or has no whole text, has no table of them
    articles = sql.Identifier(tables["articles"], "articles")
    if not examined.rows(
        sql.SQL("SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({})").format(
            sql.Literal(sql.Identifier(tables["articles"], "raw_articles").as_string(None))
        )
    ):
        return
    ((texts, not_cut, orphans),) = examined.rows(
        sql.SQL(
            "SELECT count(t.uri), count(t.uri) FILTER (WHERE c.uri IS NULL), count(c.uri) FILTER (WHERE t.uri IS NULL) "
            "FROM (SELECT r.uri FROM {raw} r JOIN {articles} a ON a.uri = r.uri WHERE r.raw_markdown <> '') AS t "
            "FULL JOIN {cuts} c ON c.uri = t.uri"
        ).format(
            raw=sql.Identifier(tables["articles"], "raw_articles"),
            articles=articles,
            cuts=sql.Identifier("everindex_meta", "article_cut"),
        )
    )
    about = articles.as_string(None)
    if not not_cut and not orphans:
        yield good(f"all {texts:,} whole texts are cut into passages", about=about)
        return
    parts = [f"{not_cut:,} of {texts:,} whole texts are not cut into passages"] if not_cut else []
    parts += [f"passages of {orphans:,} texts that are gone are stored"] if orphans else []
    yield finding(
        "; ".join(parts),
        about=about,
        fix=Fix(
            advice="run `everindex embed`: it cuts the texts, makes the vectors of their passages and removes the rest."
        ),
    )


RULE = Rule(
    slug="whole-texts-not-cut",
    severity="notice",
    title="the whole texts of articles are cut into passages",
    reason="what stands only in the body of an article is found by its passages alone; another program that writes bodies "
    "makes none, and one that deletes articles leaves them behind (docs/decisions/0025).",
    check=check,
)
