"""Bodies that are not cut, and passages of what is gone, are reported; `everindex embed` resolves both."""

from __future__ import annotations

from collections.abc import Callable

from by_hand import run
from everindex.articles.collections.registry import declared_indexes
from everindex.articles.instance import Instance
from everindex.pg.connections import connect
from examining import answers, is_good, the_finding
from whole_texts import digests

SLUG = "whole-texts-not-cut"


def test_texts_that_others_wrote_or_removed_are_reported_until_embed_has_run(
    migrated: str, open_instance: Callable[..., Instance]
) -> None:
    instance = open_instance(migrated)
    with connect(migrated) as connection:
        assert answers(migrated, SLUG, declared=tuple(declared_indexes(connection))) == []
    instance.upsert(digests(4))
    with connect(migrated) as connection:
        declared = tuple(declared_indexes(connection))
    is_good(migrated, SLUG, declared=declared)
    run(migrated, "DELETE FROM articles WHERE uri = 'digest/1'")
    run(migrated, "INSERT INTO articles (uri, title) VALUES ('new', 'New')")
    run(migrated, "INSERT INTO raw_articles (uri, raw_markdown) VALUES ('new', 'Herons wade.')")
    sentence = the_finding(migrated, SLUG, declared=declared).sentence
    assert sentence == ("1 of 4 whole texts are not cut into passages; passages of 1 texts that are gone are stored")
    instance.embed_missing()
    is_good(migrated, SLUG, declared=declared)
    assert instance.search("herons").hits[0].uri == "new"
