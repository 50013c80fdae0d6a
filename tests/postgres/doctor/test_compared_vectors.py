"""Vectors beside those of their texts: of another text than is stored, and of another model than is declared."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

import warm
from by_hand import change
from everindex.articles.background.keeper import article_keeper
from everindex.articles.connect import connect_instance
from everindex.articles.declared import EMBEDDING_INDEX
from everindex.articles.ingest.stored_vectors import sample_comparison
from everindex.articles.instance import Instance
from everindex.doctor.examine import examine
from everindex.doctor.rule import RuleResult
from everindex.pg.connections import connect
from everindex.settings import Settings

OTHER_TEXT, DISAGREES = "vectors-of-other-text", "declared-model-disagrees"
NOISE = np.random.default_rng(7)


@pytest.fixture
def articles(migrated: str) -> Iterator[Instance]:
    with connect_instance(migrated) as instance:
        instance.upsert([{"uri": f"u{n}", "title": f"title {n}", "summary": f"summary {n * n}"} for n in range(40)])
        yield instance


def declared(instance: Instance) -> None:
    """The same rows, as if another program had written them, and their model declared."""
    change(instance, "DELETE FROM everindex_meta.embedding_record")
    instance.declare_model("static")


def write_noise(instance: Instance, count: int) -> None:
    """Rows of another program that embeds with another model."""
    change(
        instance,
        *(
            f"INSERT INTO articles (uri, title, embedding) "
            f"VALUES ('noise{n}', 'noise {n}', '{NOISE.standard_normal(1536).tolist()}')"
            for n in range(count)
        ),
    )


def answers(instance: Instance, **settings: Any) -> dict[str, RuleResult]:
    with connect(instance.conninfo) as connection:
        report = examine(
            connection,
            (EMBEDDING_INDEX,),
            slugs=(OTHER_TEXT, DISAGREES),
            compare_vectors=sample_comparison(Settings(**settings)),
        )
    return {rule.slug: answer for rule, answer in report.answers}


def test_vectors_of_another_text_are_told_until_they_are_made_anew(articles: Instance) -> None:
    assert {slug: answer.status for slug, answer in answers(articles).items()} == {OTHER_TEXT: "good"}
    change(articles, "UPDATE articles SET title = 'a walk in the alps' WHERE uri IN ('u3', 'u7')")
    found = answers(articles)[OTHER_TEXT]
    assert (found.status, found.sentence[:8]) == ("finding", "2 of 40 ")
    assert found.fix is not None
    assert "everindex embed --check" in found.fix.advice
    assert articles.check_vectors().re_embedded == 2
    assert answers(articles)[OTHER_TEXT].status == "good"


def test_zero_vectors_and_those_of_a_model_that_is_not_asked_are_none_of_another_text(articles: Instance) -> None:
    change(articles, "UPDATE articles SET embedding = array_fill(0, ARRAY[1536])::vector WHERE uri = 'u1'")
    change(articles, "UPDATE everindex_meta.embedding_record SET model = 'another' WHERE uri = 'u2'")
    change(articles, "UPDATE articles SET title = 'changed' WHERE uri = 'u2'")
    assert answers(articles)[OTHER_TEXT].sentence.startswith("all 38 sampled vectors")
    assert answers(articles, embedding_model="other", openai_base_url="http://127.0.0.1:9/v1") == {}
    change(articles, "DELETE FROM everindex_meta.embedding_record")  # nobody's to judge
    assert answers(articles) == {}


def test_a_comparison_that_takes_too_long_is_unknown_and_never_good(articles: Instance) -> None:
    blocker = psycopg.connect(articles.conninfo)
    blocker.execute("LOCK TABLE everindex_meta.embedding_record IN ACCESS EXCLUSIVE MODE")
    try:
        compare = sample_comparison(Settings())
        with connect(articles.conninfo) as connection:
            report = examine(
                connection,
                (EMBEDDING_INDEX,),
                slugs=(OTHER_TEXT,),
                compare_vectors=lambda connection, _: compare(connection, 0.1),
            )
    finally:
        blocker.close()
    assert [answer.status for _, answer in report.answers] == ["unknown"]


def test_later_rows_of_another_model_are_told_and_a_declaration_that_no_longer_holds_is_withdrawn(
    articles: Instance,
) -> None:
    declared(articles)
    assert answers(articles)[DISAGREES].status == "good"
    keeper = article_keeper(articles.conninfo, Settings())
    assert keeper.once().findings == ()
    write_noise(articles, 9)
    found = answers(articles)[DISAGREES]
    assert (found.status, found.sentence[:7]) == ("finding", "9 of 49")
    kept = article_keeper(articles.conninfo, Settings()).once()
    assert [finding.slug for finding in kept.findings] == [DISAGREES]
    assert not kept.has_changed  # nine of them may be texts that are being edited
    assert "everindex embed --check" in kept.findings[0].text
    assert keeper.once().findings == ()  # not due again
    change(articles, "UPDATE articles SET title = 'edited' WHERE uri = 'u1'")
    kept = article_keeper(articles.conninfo, Settings()).once()
    assert kept.has_changed
    assert "10 of 49" in kept.findings[0].text
    assert "withdrawn" in kept.findings[0].text
    articles.invalidate()
    assert articles.models().is_unrecorded
    assert articles.search("title", mode="semantic").strategy == "keyword"
    assert article_keeper(articles.conninfo, Settings()).once().findings == ()


def test_what_disagrees_is_made_anew_by_the_command_that_the_finding_names(articles: Instance) -> None:
    declared(articles)
    write_noise(articles, 3)
    done = warm.run(["everindex", "doctor", "--json"], env=warm_environment(articles.conninfo))
    told = {each["rule"]: each for each in json.loads(done.stdout)["answers"]}
    assert told[DISAGREES]["sentence"].startswith("3 of 43 ")
    assert "everindex embed --check" in told[DISAGREES]["fix"]["advice"]
    assert done.returncode == 3
    warm.run(["everindex", "embed", "--check"], env=warm_environment(articles.conninfo))
    assert answers(articles)[DISAGREES].status == "good"
    assert answers(articles)[OTHER_TEXT].status == "good"


def killed_while_it_writes_the_declaration(articles: Instance, *arguments: str) -> None:
    """Runs the command until its statement waits for the table of declarations, and ends it with SIGKILL there."""
    with psycopg.connect(articles.conninfo, autocommit=True) as looking:
        with psycopg.connect(articles.conninfo) as holding:
            holding.execute("LOCK TABLE everindex_meta.declared_model IN SHARE MODE")
            with warm.Process(["everindex", *arguments], env=warm_environment(articles.conninfo)) as process:
                deadline = time.monotonic() + 120
                while not (waiting := looking.execute(WAITING).fetchall()):
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.05)
                process.kill()
                process.wait()
        # Its backend gets the lock now, and may finish the statement that it was sent.
        while looking.execute("SELECT FROM pg_stat_activity WHERE pid = %s", waiting[0]).fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.05)


WAITING = "SELECT pid FROM pg_locks WHERE relation = 'everindex_meta.declared_model'::regclass AND NOT granted"
DECLARED = "SELECT compared > 0 AND agreed = compared FROM everindex_meta.declared_model"


def test_declaring_that_is_killed_leaves_a_whole_declaration_or_none_and_a_second_one_ends_it(
    articles: Instance,
) -> None:
    change(articles, "DELETE FROM everindex_meta.embedding_record")
    killed_while_it_writes_the_declaration(articles, "model", "declare", "static")
    with psycopg.connect(articles.conninfo) as connection:
        assert connection.execute(DECLARED).fetchall() in ([], [(True,)])
    articles.declare_model("static")
    articles.invalidate()
    assert articles.search("title 3", mode="semantic").strategy != "keyword"


def test_a_withdrawal_that_is_killed_is_done_or_done_by_the_next_round(articles: Instance) -> None:
    declared(articles)
    write_noise(articles, 12)
    killed_while_it_writes_the_declaration(articles, "keep", "--once")
    with psycopg.connect(articles.conninfo) as connection:
        assert connection.execute(DECLARED).fetchall() in ([], [(True,)])
    article_keeper(articles.conninfo, Settings()).once()
    articles.invalidate()
    assert articles.models().is_unrecorded
    assert articles.search("title 3", mode="semantic").strategy == "keyword"
    assert article_keeper(articles.conninfo, Settings()).once().findings == ()


def warm_environment(conninfo: str) -> dict[str, str]:
    return os.environ | {"DATABASE_URL": conninfo, "EVERINDEX_WAIT": "0"}
