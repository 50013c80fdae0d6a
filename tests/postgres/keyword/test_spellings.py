"""Titles are found as a person types them, and not by what is another word.

With hyphens or without, in another form of Unicode, inside a sentence without spaces.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from everindex.articles.connect import connect_instance
from everindex.articles.instance import Instance
from everindex.articles.model import Article
from everindex.articles.search.keyword.document import INDEX_NAME
from everindex.articles.search.keyword.index.ensure import ensure_words
from everindex.settings import Settings
from templates import migrate


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def full_width(text: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if one > " " else one for one in text)


TITLES = (
    "这是一个测试", "日本語のテストを書く", "번역을 부탁해 주세요", "ภาษาไทยง่าย", "Café Müller",
    nfd("Björk en conçert"), full_width("Fullwidth 2024"), "C++ templates", "C# generics", "Vitamin C and D3",
    "ASP.NET and .NET 8 released", "node.js 22 streams", "AT&T and T-Mobile merge", "TCP/IP and e-mail over IPv6",
    "email is easy",
    "Python 3.10 is out", "Python 3.1 is old", "Temperature falls to -5 degrees", "COVID-19 vaccines", "COVID 19 again",
    "Don't panic: it's O'Reilly's book", "GPT-4o mini", "CVE-2024-3094 in xz", "The state-of-the-art in IT",
    "user_id and snake_case",
    "HttpClientFactory", "#hashtag @mention 100%", "use of /etc/passwd and C:\\Windows", "5x faster", "Boeing 737-800",
)  # fmt: skip


@pytest.fixture(scope="module")
def spelled(cluster: Any) -> Iterator[Instance]:
    conninfo = cluster.database(cluster.template("at_head", migrate))
    with connect_instance(conninfo, settings=Settings()) as instance:
        instance.upsert(Article(uri=title, title=title) for title in TITLES)
        yield instance
    cluster.drop(conninfo)


@pytest.mark.parametrize(
    ("typed", "begins"),
    [
        *((one, ["COVID-19", "COVID 19"]) for one in ("covid 19", "covid-19", "covid19", full_width("COVID-19"))),
        *((one, ["GPT-4o"]) for one in ("gpt 4o", "gpt4o", "GPT-4o")),
        *((one, ["Boeing"]) for one in ("737 800", "737-800")),
        *((one, ["CVE-"]) for one in ("cve 2024 3094", "CVE-2024-3094", "cve-2024-3094 xz")),
        *((one, ["AT&T"]) for one in ("t mobile", "T-Mobile", "tmobile", "AT&T", "att")),
        *((one, ["The state"]) for one in ("state of the art", "state-of-the-art", '"state-of-the-art"')),
        *((one, ["TCP/IP", "email"]) for one in ("e-mail", "email", "e mail", "E-Mail")),
        *((one, ["TCP/IP"]) for one in ("TCP/IP", "tcp ip", "tcpip", "IPv6", "ipv 6")),
        ("C++", ["C++"]), ("c++ templates", ["C++"]), ("C#", ["C#"]), ("c", ["C++", "C#", "Vitamin C", "use of"]),
        ("D3", ["Vitamin"]), ("vitamin d3", ["Vitamin"]),
        *((one, ["ASP.NET"]) for one in (".NET", "ASP.NET", "asp net")),
        *((one, ["node.js"]) for one in ("node.js", "node js", "Node.JS 22")),
        ("3.10", ["Python 3.10"]), ("3.1", ["Python 3.1 "]), ("python 3.1", ["Python 3.1 "]), ("python -3.10", ["Python 3.10"]),
        ('python -"3.10"', ["Python 3.1 "]), ("-5 degrees", ["Temperature"]), ("falls to -5", ["Temperature"]),
        *((one, ["Don't"]) for one in ("O'Reilly", "oreilly", "o\u2019reilly", "don't panic", "dont panic", "reilly")),
        *((one, ["user_id"]) for one in ("user_id", "user id", "snake_case", "snake case")),
        *((one, ["HttpClient"]) for one in ("HttpClientFactory", "http client factory", "httpclientfactory")),
        ("#hashtag", ["#hashtag"]), ("@mention", ["#hashtag"]), ("100%", ["#hashtag"]),
        *((one, ["use of"]) for one in ("/etc/passwd", "etc passwd", "C:\\Windows")),
        ("5x", ["5x"]), ("5 x", ["5x"]),
        *((one, ["这"]) for one in ("测试", "一个测试", "这是一个测试", "测试 这是")), ("试测", []),
        *((one, ["日"]) for one in ("テスト", "\uff83\uff7d\uff84", "日本語")),
        *((one, ["번"]) for one in ("번역", "부탁", nfd("번역"))), ("ไทย", ["ภ"]),
        *((one, ["Café"]) for one in ("café", nfd("café"), "MÜLLER", nfd("müller"))),
        *((one, [nfd("Björk")]) for one in ("björk", nfd("Björk"), "conçert")),
        *((one, [full_width("F")]) for one in ("fullwidth", "2024 fullwidth", full_width("fullwidth"))),
    ],
)  # fmt: skip
def test_a_title_is_found_by_what_is_typed_and_no_other(spelled: Instance, typed: str, begins: list[str]) -> None:
    found = {hit.uri for hit in spelled.search(typed, mode="keyword", k=100).hits}
    assert found == {title for title in TITLES if title.startswith(tuple(begins))}


@pytest.mark.parametrize(
    ("typed", "marked"),
    [
        ("covid 19", "<mark>COVID</mark>-<mark>19</mark> vaccines"),
        ("测试", "这是一个<mark>测试</mark>"),
        ("tcp ip", "<mark>TCP</mark>/<mark>IP</mark> and e-mail over IPv6"),
        ("björk", "<mark>Björk</mark> en conçert"),
        ("fullwidth", "<mark>Fullwidth</mark> 2024"),
    ],
)
def test_what_was_found_is_marked(spelled: Instance, typed: str, marked: str) -> None:
    assert marked in [hit.title_snippet for hit in spelled.search(typed, mode="keyword").hits]


def test_in_a_database_of_another_encoding_words_are_found_and_indexed(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "words_in_latin1"
    with psycopg.connect(cluster.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    conninfo = cluster.conninfo(name)
    migrate(conninfo)
    with connect_instance(conninfo, settings=Settings()) as instance:
        instance.upsert([Article(uri="a", title="COVID-19 caf\xe9"), Article(uri="b", title="C++ e-mail")])
        assert [hit.uri for hit in instance.search("covid 19 caf\xe9", mode="keyword").hits] == ["a"]
        assert [hit.uri for hit in instance.search("C++ email", mode="keyword").hits] == ["b"]
    assert ensure_words(conninfo, text_search="english").outcome == "already-there"
    cluster.drop(conninfo)


def test_the_index_of_an_earlier_release_is_replaced_and_searches_are_right_and_say_so_before(migrated: str) -> None:
    with psycopg.connect(migrated, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {INDEX_NAME}")
        connection.execute(
            f"""CREATE INDEX {INDEX_NAME} ON articles USING gin ((
                setweight(to_tsvector('pg_catalog.english'::regconfig, translate("left"(COALESCE(title, ''), 5000),
                './@<>', '     ')), 'A') || setweight(to_tsvector('pg_catalog.english'::regconfig,
                translate("left"(COALESCE(summary, ''), 50000), './@<>', '     ')), 'B')))"""
        )
        connection.execute(f"COMMENT ON INDEX {INDEX_NAME} IS 'ours'")
        connection.execute(
            "INSERT INTO articles (uri, title) SELECT n::text, 'COVID-19 number ' || n FROM generate_series(1, 1200) n"
        )
        connection.execute("ANALYZE articles")
        with connect_instance(migrated, settings=Settings()) as instance:
            before = instance.search("covid 19", mode="keyword", k=1000)
            assert len(before.hits) == 1000
            assert any("no index is available for keyword search" in notice for notice in before.notices)
            assert ensure_words(migrated, text_search="english").outcome == "replaced"
            assert ensure_words(migrated, text_search="english").outcome == "already-there"
            instance.invalidate()
            after = instance.search("covid 19", mode="keyword", k=1000)
            assert [hit.uri for hit in after.hits] == [hit.uri for hit in before.hits]
            assert not any("no index" in notice for notice in after.notices)
        assert connection.execute(f"SELECT obj_description('{INDEX_NAME}'::regclass)").fetchone() == ("ours",)
