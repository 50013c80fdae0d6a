"""Every command as a user runs it: what it prints, as text and as JSON, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from command_line import COMMAND, PASSWORD, Done, environment, everindex, three_lines, url_of
from everindex.articles.instance import Instance
from everindex.cli.app import app
from everindex.cli.commands import COMMANDS

NAMES = [command.name for command in COMMANDS]
HEAD = "e0aa2eb4fa0a"
Run = Callable[..., Done]


@pytest.mark.parametrize("command", NAMES)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])  # in this process: a start costs a second
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"Usage: everindex {command}" in done.stdout
    assert "--help" in done.stdout


@pytest.mark.parametrize("command", ["status", "doctor", "deploy"])
def test_a_help_text_is_printed_with_its_brackets(command: str) -> None:
    shown = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.replace("│", " ").split())
    assert "[tool.everindex]" in shown


def test_help_lists_every_command_and_the_version_is_told() -> None:
    done = everindex("-h")
    assert done.status == 0
    assert all(f" {command} " in done.stdout for command in NAMES)
    version = everindex("--version")
    assert (version.status, version.stderr) == (0, "")
    assert version.stdout.startswith("everindex 0.")


@pytest.mark.parametrize("arguments", [("no-such-command",), ("search", "x", "--k", "many")])
def test_a_wrong_command_line_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    done = everindex(*arguments)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr


# --- search --------------------------------------------------------------------------------------------------------


def test_search_prints_hits_and_how_they_were_found(on_articles: Run) -> None:
    done = on_articles("search", "memory leak in the parser", "-k", "3")
    assert done.status == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert [line[:4] for line in lines[::3]] == ["  1.", "  2.", "  3."]
    assert all("similarity 0." in line for line in lines[1::3])
    assert done.stderr.startswith("3 results · hybrid · index · ")
    assert " ms\n" in done.stderr


def test_a_search_takes_a_condition_as_json(on_articles: Run) -> None:
    where = '{"category": {"$in": ["Library", "Tests"]}, "publication_date": {"$gte": "2021"}}'
    found = on_articles("search", "crash", "--where", where, "-k", "7", "--json").json["hits"]
    assert len(found) == 7
    assert all(hit["category"] in ("Library", "Tests") and hit["publication_date"] >= "2021" for hit in found)
    narrower = on_articles("search", "crash", "--where", where, "--category", "Tests", "--json").json["hits"]
    assert {hit["category"] for hit in narrower} == {"Tests"}
    explained = on_articles("search", "crash", "--where", where, "--mode", "semantic", "--explain").stdout
    assert '"category" = ANY' in explained
    counted = on_articles("search", "--where", where, "-k", "1", "--facets", "category,publication_date").stdout
    assert re.search(r"^of [0-9,]+ articles that pass the filters:$", counted, re.MULTILINE)
    assert re.search(r"^  category: \S.* [0-9,]+, \S.* [0-9,]+$", counted, re.MULTILINE)
    assert re.search(r"^  publication_date by (month|year): 20", counted, re.MULTILINE)
    refused = on_articles("search", "crash", "--where", '{"catgory": "Tests"}')
    three_lines(refused, "filter-invalid", status=2)
    assert "did you mean category?" in refused.stderr


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "keyword"])
def test_a_search_goes_on_with_the_cursor_that_it_ended_with(on_articles: Run, mode: str) -> None:
    asked = ("search", "memory leak", "-k", "4", "--mode", mode)
    first = on_articles(*asked)
    told, _, cursor = first.stderr.splitlines()[-1].partition("--after ")
    assert told == "Next page: add  "
    second = on_articles(*asked, "--after", cursor, "--json").json
    titles = [hit["title"] for hit in second["hits"]]
    assert len(titles) == 4
    assert (
        len({hit["uri"] for hit in second["hits"]} & set(re.findall(r"^     (\S+:\S+)$", first.stdout, re.MULTILINE)))
        == 0
    )
    refused = on_articles("search", "crash", "--mode", mode, "--after", cursor)
    three_lines(refused, "cursor-refused", status=2)


def test_a_further_page_is_explained_where_it_has_a_plan(on_articles: Run) -> None:
    first = on_articles("search", "memory leak", "--mode", "semantic", "--json").json
    after = ("--after", first["next_cursor"])
    told = on_articles("search", "memory leak", "--mode", "semantic", *after, "--explain", "--json").json["explanation"]
    assert "after_distance" in told["statement"]
    assert any("articles_embedding_hnsw_idx" in line for line in told["plan"])
    hybrid = on_articles("search", "memory leak", "--json").json["next_cursor"]
    assert (
        "--explain works for the first page"
        in on_articles("search", "memory leak", "--after", hybrid, "--explain").stderr
    )


def test_similarity_and_variety_are_options_of_a_search(on_articles: Run) -> None:
    cut = on_articles("search", "memory leak", "-k", "50", "--min-similarity", "0.5", "--json").json
    assert 0 < len(cut["hits"]) < 50
    assert all(hit["similarity"] >= 0.5 for hit in cut["hits"])
    varied = on_articles("search", "memory leak", "-k", "5", "--diversity", "0.7")
    assert " · hybrid, diversity 0.7 · " in varied.stderr
    assert "Next page" not in varied.stderr
    three_lines(on_articles("search", "x", "--min-similarity", "7"), "query-invalid", status=2)
    three_lines(on_articles("search", "x", "--diversity", "7"), "query-invalid", status=2)


def test_similar_articles_without_near_duplicates(on_articles: Run) -> None:
    uri = on_articles("search", "update windows installer to openssl", "-k", "1", "--json").json["hits"][0]["uri"]
    plain = on_articles("similar", uri, "-k", "5", "--json").json
    wide = ("--without-near-duplicates", "--near-duplicate-distance", "0.3")
    distinct = on_articles("similar", uri, "-k", "5", *wide, "--json").json
    assert len(distinct["hits"]) == 5
    assert all(hit["distance"] >= 0.3 - 1e-6 for hit in distinct["hits"])
    more = on_articles("similar", uri, "-k", "5", "--after", plain["next_cursor"], "--json").json
    assert not {hit["uri"] for hit in more["hits"]} & {hit["uri"] for hit in plain["hits"]}


def test_near_duplicates_are_listed_below_the_first_of_them(on_articles: Run) -> None:
    asked = ("search", "POSIX semaphores on NetBSD", "-k", "5", "--group-duplicates")
    hits = on_articles(*asked, "--json").json["hits"]
    others = [other["uri"] for hit in hits for other in hit.get("duplicates", [])]
    assert others
    done = on_articles(*asked)
    assert re.findall(r"^     \+ .* · (\S+)$", done.stdout, re.MULTILINE) == others
    assert done.stderr.startswith(f"{5 + len(others)} results · hybrid")
    similar = on_articles("similar", hits[0]["uri"], "-k", "3", "--group-duplicates", "--json").json["hits"]
    assert len(similar) == 3


def test_a_search_is_sorted_by_date_and_leads_back(on_articles: Run) -> None:
    asked = ("search", "memory", "--sort", "newest", "-k", "4")
    first = on_articles(*asked, "--json").json
    dates = [hit["publication_date"] for hit in first["hits"]]
    assert dates == sorted(dates, reverse=True)
    second = on_articles(*asked, "--after", first["next_cursor"])
    assert second.stderr.startswith(f"5-8 of {first['total']} articles · hybrid · newest first · ")
    third = on_articles(*asked, "--after", second.stderr.split("--after ")[-1].strip())
    back = re.search(r"^Previous page: add  --after (\S+)$", third.stderr, re.MULTILINE)
    assert back is not None
    assert on_articles(*asked, "--after", back[1]).stdout == second.stdout
    assert on_articles("search", "x", "--sort", "oldest").status == 2


def test_a_result_is_written_into_a_file_or_to_stdout(on_articles: Run, tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    done = on_articles("search", "memory leak", "--output", str(path), "-k", "1200", "--mode", "semantic")
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr.endswith(f"1200 rows written into {path}\n")
    assert len(list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))) == 1200
    lines = on_articles("search", "memory leak", "-k", "3", "--format", "jsonl").stdout.splitlines()
    wanted = on_articles("search", "memory leak", "-k", "3", "--json").json["hits"]
    assert [json.loads(line)["uri"] for line in lines] == [hit["uri"] for hit in wanted]
    told = on_articles("search", "--category", "Library", "--output", str(tmp_path / "x.parquet"), "-k", "9", "--json")
    assert told.json == {"rows": 9, "output": str(tmp_path / "x.parquet"), "notices": []}
    three_lines(on_articles("search", "x", "--output", str(tmp_path / "x.xls")), "bad-input", status=2)
    three_lines(on_articles("search", "x", "--output", "-"), "bad-input", status=2)


def test_search_by_words_or_by_meaning_alone(on_articles: Run) -> None:
    words = on_articles("search", '"memory leak" -parser', "-k", "3", "--mode", "keyword")
    assert (words.status, words.stdout.count("words #")) == (0, 3)
    assert "similarity" not in words.stdout
    assert re.match(r"3 of \d+ articles · keyword · ", words.stderr)
    meaning = on_articles("search", "memory leak", "--mode", "semantic", "--json")
    assert (meaning.json["mode"], {hit["keyword_rank"] for hit in meaning.json["hits"]}) == ("semantic", {None})
    nothing = on_articles("search", "qqqzzz", "--mode", "keyword")
    assert (nothing.status, nothing.stdout[:34]) == (0, "no article contains these words: t")
    assert "stop words" in on_articles("search", "the of", "--mode", "keyword").stderr
    assert everindex("search", "x", "--mode", "both").status == 2


def test_how_the_words_were_found_is_explained_without_what_was_asked(on_articles: Run) -> None:
    both = on_articles("search", "secretword leak", "--explain", "--json").json["explanation"]
    assert {"strategy", "plan", "words"} <= set(both)
    assert any("articles_text_search_idx" in line for line in both["words"]["plan"])
    assert "secretword" not in str(both["words"])
    words = on_articles("search", "leak", "--explain", "--mode", "keyword")
    assert "OPERATOR(pg_catalog.@@)" in words.stdout
    assert "strategy:" not in words.stdout
    assert "words" not in on_articles("search", "leak", "--explain", "--mode", "semantic", "--json").json["explanation"]


def test_a_language_that_the_server_lacks_is_told_in_three_lines(on_articles: Run) -> None:
    done = on_articles("search", "x", EVERINDEX_TEXT_SEARCH="klingon")
    three_lines(done, "setting-invalid", status=2)
    assert "klingon" in done.stderr
    assert "english" in done.stderr


def test_search_as_json_is_one_complete_document(on_articles: Run) -> None:
    arguments = ("search", "ünïcode \U0001f600 release", "-k", "5", "--since", "2017", "--until", "2025-01", "--json")
    done = on_articles(*arguments)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    answer = done.json
    assert set(answer) == {
        "hits", "k", "mode", "strategy", "reason", "ef_search", "elapsed_ms", "notices", "diversity", "next_cursor",
        "previous_cursor", "shown_before", "sort", "passing", "passing_is_least",
    }  # fmt: skip
    assert (answer["k"], answer["mode"], len(answer["hits"])) == (5, "hybrid", 5)
    assert answer["strategy"] in ("filtered-exact", "index-filtered")
    assert set(answer["hits"][0]) == {
        "uri", "title", "summary", "news_source", "category", "topic", "publication_date", "distance", "similarity",
        "title_snippet", "snippet", "semantic_rank", "keyword_rank", "score", "rerank_score",
        "passage",
    }  # fmt: skip
    assert all("2017" <= hit["publication_date"] < "2025-02" for hit in answer["hits"])


def test_a_search_that_finds_nothing_says_so_and_succeeds(on_articles: Run) -> None:
    done = on_articles("search", "anything", "--category", "none of these")
    assert done.status == 0
    assert done.stdout.startswith("no article matches")
    assert on_articles("search", "anything", "--category", "none of these", "--json").json["hits"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", " "), ("search", "x", "-k", "1001"), ("search", "x", "--since", "soon"),
        ("search", "x", "--category", "\udcff"),
    ],
)  # fmt: skip
def test_a_search_that_cannot_be_answered_is_a_usage_error(on_articles: Run, arguments: tuple[str, ...]) -> None:
    done = on_articles(*arguments)
    three_lines(done, "query-invalid", status=2)
    assert done.stdout == ""


def test_a_text_that_gets_no_vector_is_a_usage_error(on_articles: Run) -> None:
    three_lines(on_articles("search", "\udcff", "--mode", "semantic"), "query-inapplicable", status=2)


def test_an_error_as_json_is_a_document_too(on_articles: Run) -> None:
    done = on_articles("search", "x", "-k", "0", "--json")
    three_lines(done, "query-invalid", status=2)
    assert set(done.json["error"]) == {"slug", "what", "why", "next"}
    assert "filters alone list the newest" in on_articles("search", "--json").json["error"]["next"]


@pytest.mark.parametrize("arguments", [("check",), ("search", "x", "--k", "many"), ("status", "--no-such-option")])
def test_a_command_line_that_is_not_understood_is_a_document_too(arguments: tuple[str, ...]) -> None:
    done = everindex(*arguments, "--json")
    assert (done.status, done.json["error"]["slug"]) == (2, "bad-input")
    assert done.stderr


def test_hits_that_try_to_steer_the_terminal_are_printed_harmlessly(on_head: Run, migrated: str) -> None:
    title = "red \x1b[31m bell \x07 \x9b31m title ]0;owned\x07 [bold]not markup[/bold]"
    row = json.dumps({"uri": "u\x1b]8;;x", "title": title, "category": "c\x1b[2J"})
    assert on_head("import", "-", "--format", "jsonl", stdin=row).status == 0
    done = on_head("search", "title")
    assert done.status == 0
    assert "[bold]not markup[/bold]" in done.stdout
    assert not {"\x1b", "\x07", "\x9b"} & set(done.stdout + done.stderr)
    assert on_head("search", "title", "--json").json["hits"][0]["title"] == title


# --- where the output goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_a_reader_that_has_gone_is_no_error(read_only_instance: Instance, extra: tuple[str, ...]) -> None:
    """`everindex search … | head -1`, with more output than a pipe holds."""
    with subprocess.Popen(
        [str(COMMAND), "search", "release", "-k", "1000", *extra],
        env=environment({"DATABASE_URL": url_of(read_only_instance.conninfo)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        stderr = process.stderr.read().decode()
        status = process.wait(30)
    assert "Traceback" not in stderr
    assert "Error" not in stderr
    assert "Broken" not in stderr
    assert "internal" not in stderr
    assert status == 0


@pytest.mark.parametrize("arguments", [("--help",), ("doctor", "--help"), ("--commands",), ("--version",), ()])
def test_a_reader_of_the_help_that_has_gone_is_no_error(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(COMMAND), *arguments], env=environment({}), stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    assert done.returncode == (0 if arguments else 2)  # no command is a usage error, as before


def test_output_is_plain_without_a_terminal_and_whatever_the_locale(on_articles: Run) -> None:
    for variables in ({"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii", "TERM": "dumb"}):
        done = on_articles("search", "release", "-k", "50", **variables)
        assert done.status == 0, (variables, done.stderr)
        assert "similarity" in done.stdout
        assert "\x1b" not in done.stdout + done.stderr
    document = on_articles("search", "release", "--json", PYTHONIOENCODING="ascii")
    assert len(document.json["hits"]) == 10
    assert document.stdout.isascii()


def test_log_lines_in_json_are_json(on_articles: Run) -> None:
    done = on_articles("search", "release", EVERINDEX_LOG_FORMAT="json", EVERINDEX_SLOW_QUERY_MS="0")
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert len(logged) == 1
    assert logged[0]["event"] == "slow-query"
    assert logged[0]["message"].startswith(f"{logged[0]['duration_ms']} ms, k=20 ")
    assert (logged[0]["strategy"], logged[0]["filters"]) == ("index", [])
    assert (logged[0]["level"], logged[0]["logger"]) == ("warning", "everindex.search")
    assert logged[0]["timestamp"].endswith("Z")
    done = on_articles("search", "release", EVERINDEX_SLOW_QUERY_MS="0", NO_COLOR="1", FORCE_COLOR="1")
    assert " slow-query: " in done.stderr
    assert "\x1b" not in done.stderr


def test_spans_go_where_the_environment_says(on_articles: Run) -> None:
    done = on_articles("search", "release", OTEL_TRACES_EXPORTER="console", OTEL_RESOURCE_ATTRIBUTES="zone=north")
    assert done.status == 0
    (span,) = [json.loads(text) for text in re.findall(r"^\{.*?^\}", done.stderr, flags=re.DOTALL | re.MULTILINE)]
    assert (span["name"], span["attributes"]["everindex.mode"]) == ("search", "hybrid")
    assert (span["resource"]["attributes"]["service.name"], span["resource"]["attributes"]["zone"]) == (
        "everindex",
        "north",
    )


# --- status, verify, migrate ---------------------------------------------------------------------------------------


def test_status_shows_the_server_and_every_index(on_articles: Run) -> None:
    done = on_articles("status")
    assert (done.status, done.stderr) == (0, "")
    first, *proofs = done.stdout.splitlines()
    assert first.startswith("PostgreSQL 18.")
    assert "pgvector 0.8." in first
    assert [proof[0] for proof in proofs] == ["✓", "✓"]
    document = on_articles("status", "--json").json
    assert document["holds"] is True
    assert [proof["name"] for proof in document["proofs"]] == ["revision", "index"]
    assert {"server", "database", "holds", "notes", "proofs"} == set(document)


def test_verify_proves_it_all(on_articles: Run) -> None:
    done = on_articles("verify", "--samples", "20")
    assert (done.status, done.stderr) == (0, "")
    assert [line[0] for line in done.stdout.splitlines()] == ["✓"] * 4
    document = on_articles("verify", "--samples", "20", "--json").json
    assert document["holds"] is True
    assert [proof["name"] for proof in document["proofs"]] == ["revision", "index", "planner", "recall"]


def test_status_and_verify_exit_with_three_when_the_index_is_gone_and_migrate_brings_it_back(
    on_head: Run, migrated: str
) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("DROP INDEX articles_embedding_hnsw_idx")
    for command in ("status", "verify"):
        done = on_head(command)
        assert done.status == 3
        assert "✗" in done.stdout
        assert "next: " in done.stdout
        document = on_head(command, "--json")
        assert (document.status, document.json["holds"]) == (3, False)
    assert on_head("migrate").stdout == f"{HEAD} (head)\n"
    assert on_head("status").status == 0


def test_a_recall_under_the_floor_is_a_finding(on_articles: Run) -> None:
    done = on_articles("verify", "--samples", "2", "--recall", "1", "--json")
    assert done.status in (0, 3)
    assert done.json["holds"] is (done.status == 0)


def test_migrate_goes_to_head_and_back_and_tells_where_it_is(empty: str) -> None:
    def run(*arguments: str) -> Done:
        return everindex("migrate", *arguments, DATABASE_URL=url_of(empty))

    assert run("--current").stdout == "no revision: not migrated\n"
    assert run("--current", "--json").json == {"current": [], "head": HEAD, "is_head": False, "attached": False}
    done = run("--json")
    assert (done.status, done.json) == (0, {"current": [HEAD], "head": HEAD, "is_head": True, "attached": False})
    assert run("--current").stdout == f"{HEAD} (head)\n"
    done = run("--down")
    assert done.status == 0
    assert HEAD not in done.stdout
    assert run("--down", "base").stdout == "no revision: not migrated\n"


def test_history_and_sql_need_no_server() -> None:
    nowhere = {"DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"}
    done = everindex("migrate", "--history", **nowhere)
    assert (done.status, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5
    assert done.stdout.splitlines()[0].split(",")[0].endswith(f"-> {HEAD} (head)")
    chain = everindex("migrate", "--history", "--json", **nowhere).json
    assert [row["down_revision"] for row in chain] == [row["revision"] for row in chain[1:]] + [None]
    done = everindex("migrate", "--sql", **nowhere)
    assert done.status == 0
    assert done.stdout.startswith("\\set ON_ERROR_STOP on")
    assert "CREATE INDEX CONCURRENTLY" in done.stdout
    assert "vector_cosine_ops" in done.stdout
    document = everindex("migrate", "--sql", "--json", **nowhere).json
    assert document["sql"].strip() == done.stdout.strip()
    assert document["note"] in done.stderr
    three_lines(everindex("migrate", "--sql", "--history", **nowhere), "bad-input", status=2)


@pytest.mark.parametrize(
    "arguments", [("nosuchrevision",), ("--sql", "nosuch"), ("--down", "nosuch"), ("--down", "-9")]
)
def test_a_revision_that_the_chain_does_not_have_is_named_and_nothing_is_changed(
    on_head: Run, arguments: tuple[str, ...]
) -> None:
    three_lines(on_head("migrate", *arguments), "revision-not-found", status=2)
    assert on_head("migrate", "--current").stdout == f"{HEAD} (head)\n"


def test_a_database_of_a_later_release_is_refused(on_head: Run, migrated: str) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fromlater'")
    three_lines(on_head("migrate"), "revision-unknown")


@pytest.mark.parametrize("command", [("search", "x"), ("import", "-", "--format", "jsonl"), ("embed",)])
def test_a_database_that_is_not_migrated_says_what_to_run(empty: str, command: tuple[str, ...]) -> None:
    done = everindex(*command, stdin='{"uri": "u", "title": "t"}', DATABASE_URL=url_of(empty))
    three_lines(done, "not-migrated")
    assert "everindex migrate" in done.stderr


# --- addresses and settings ----------------------------------------------------------------------------------------


def test_the_server_may_be_named_by_its_parts(read_only_instance: Instance) -> None:
    parts = conninfo_to_dict(read_only_instance.conninfo)
    done = everindex(
        "status",
        DB_HOST=str(parts["host"]), DB_PORT=str(parts["port"]), DB_NAME=str(parts["dbname"]), DB_USER=str(parts["user"]),
        DB_PASSWORD=PASSWORD,
    )  # fmt: skip
    assert done.status == 0


def test_an_address_for_sqlalchemy_is_understood(read_only_instance: Instance) -> None:
    done = everindex("status", DATABASE_URL=url_of(read_only_instance.conninfo, scheme="postgresql+psycopg2"))
    assert done.status == 0


def test_settings_may_stand_in_env_files_and_secrets_in_files(read_only_instance: Instance, place: Path) -> None:
    (place / ".env").write_text(f"DATABASE_URL={url_of(read_only_instance.conninfo)}\n", encoding="utf-8")
    assert everindex("status", cwd=place).status == 0
    secret = place / "secret"
    secret.write_text(url_of(read_only_instance.conninfo) + "\n", encoding="utf-8")
    (place / ".env").write_text("DATABASE_URL=nonsense\n", encoding="utf-8")
    assert everindex("status", cwd=place, DATABASE_URL_FILE=str(secret)).status == 0


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        (f"postgresql://u:{PASSWORD}@no-such-host.invalid/db", "server-host-unknown"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:1/db", "server-unreachable"),
        (f"postgresql://u:{PASSWORD}@%2Fno%2Fsuch%2Fdirectory/db", "server-unreachable"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:port/db", "server-unreachable"),
        (f"nonsense {PASSWORD}", "setting-invalid"),
        (f"mysql://u:{PASSWORD}@127.0.0.1/db", "setting-invalid"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1/db?nosuch={PASSWORD}", "setting-invalid"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_without_the_password(address: str, slug: str) -> None:
    for command in (("search", "x"),) if ":port" in address else (("migrate", "--json"),):
        done = everindex(*command, DATABASE_URL=address)
        if address.count(":port/"):
            assert done.status in (1, 2)
            assert len(done.stderr.splitlines()) == 3
        else:
            three_lines(done, slug, status=2 if slug == "setting-invalid" else 1)


def test_a_missing_database_or_role_is_told(read_only_instance: Instance) -> None:
    parts = conninfo_to_dict(read_only_instance.conninfo)
    right = url_of(read_only_instance.conninfo)
    three_lines(everindex("status", DATABASE_URL=right.rsplit("/", 1)[0] + "/nosuch"), "database-missing")
    wrong_role = right.replace(f"//{parts['user']}:", "//nosuchrole:")
    three_lines(everindex("status", DATABASE_URL=wrong_role), "credentials-refused")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc-s3"), ("PORT", "70000"), ("EVERINDEX_RECALL_FLOOR", "7"), ("EVERINDEX_WAIT", "long-s3"),
        ("EVERINDEX_LOG_LEVEL", "chatty-s3"), ("EVERINDEX_LOG_FORMAT", "xml-s3"), ("DB_PORT", "-1"),
        ("EVERINDEX_POOL_SIZE", "0"), ("DATABASE_URL", "nonsense-s3"), ("EVERINDEX_DIMENSIONS", "16001"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named_without_its_value(name: str, value: str) -> None:
    done = everindex("status", **{name: value})
    three_lines(done, "setting-invalid", status=2)
    assert name in done.stderr
    assert "-s3" not in done.stdout + done.stderr


def test_a_secret_in_both_forms_or_in_a_file_that_is_not_there_is_refused(place: Path) -> None:
    (place / "file").write_text(PASSWORD, encoding="utf-8")
    for name in ("DATABASE_URL", "DB_PASSWORD", "OPENAI_API_KEY"):
        done = everindex("status", **{name: PASSWORD, f"{name}_FILE": str(place / "file")})
        three_lines(done, "setting-invalid", status=2)
        assert f"{name}_FILE" in done.stderr
    three_lines(everindex("status", DB_PASSWORD_FILE=str(place / "missing")), "setting-invalid", status=2)
    three_lines(everindex("status", DB_PASSWORD_FILE=str(place)), "setting-invalid", status=2)
    (place / "binary").write_bytes(b"\xff\xfe\x00")
    three_lines(everindex("status", DB_PASSWORD_FILE=str(place / "binary")), "setting-invalid", status=2)


def test_health_asks_the_port_of_the_settings() -> None:
    done = everindex("health", "--timeout", "2", PORT="1")
    assert done.status == 1
    assert "does not respond" in done.stdout


# --- browsing ------------------------------------------------------------------------------------------------------


def test_filters_without_a_text_list_the_newest(on_articles: Run) -> None:
    first = on_articles("search", "--category", "Library", "-k", "2")
    assert (first.status, len(first.stdout.splitlines())) == (0, 6)
    assert "similarity" not in first.stdout
    told, further = first.stderr.splitlines()
    assert re.fullmatch(r"2 of \d+ articles · newest first · [\d.]+ ms", told)
    cursor = further.partition("--after ")[2]
    both = on_articles("search", "--category", "Library", "-k", "4", "--json").json
    assert (both["mode"], both["total"]) == ("browse", int(told.split()[2].rstrip(",")))
    second = on_articles("search", "--category", "Library", "-k", "2", "--after", cursor, "--json").json
    assert both["hits"][2:] == second["hits"]


def test_neither_text_nor_filter_is_a_usage_error(on_articles: Run) -> None:
    three_lines(on_articles("search"), "query-invalid", status=2)


def test_attach_is_for_the_database_of_another_application_and_not_for_that_of_the_embedded_server(
    tmp_path: Path,
) -> None:
    done = everindex("attach", EVERINDEX_HOME=str(tmp_path))
    three_lines(done, "bad-input", status=2)
    assert "set DATABASE_URL" in done.stderr
    assert not any(tmp_path.iterdir())
