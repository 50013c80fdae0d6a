"""The examples of the adapters, run as a reader would run them; and that nothing else loads a framework."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from repository import REPOSITORY

EXAMPLES = REPOSITORY / "examples" / "adapters"


def run(*arguments: str, conninfo: str = "") -> str:
    environment = os.environ | ({"DATABASE_URL": conninfo} if conninfo else {})
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_the_example_of_a_store_finds_what_it_says(empty: str, framework: str) -> None:
    said = run(str(EXAMPLES / f"{framework}_store.py"), conninfo=empty)
    assert said.splitlines() == [
        "by meaning: ['tiger', 'whale']",
        "filtered: ['whale', 'rates']",
        "retrieved: ['error']",
    ]


def test_the_example_of_mcp_reads_what_it_says(filled: str) -> None:
    said = run(str(EXAMPLES / "mcp_client.py"), conninfo=filled)
    assert said.splitlines() == [
        "tools: article, check, collections, explain, search, similar, status, verify",
        "found: 3 articles by hybrid",
        "index as declared: True",
        "an error: Error executing tool article: article-not-found: there is no article 'nowhere'.",
    ]


def test_nothing_of_a_framework_is_loaded_unless_its_adapter_is() -> None:
    load = (
        "import sys, everindex, everindex.articles.connect, everindex.articles.instance, everindex.documents, everindex.web.app, "
        "everindex.cli.run\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'langchain_core', 'llama_index', 'mcp'}))"
    )
    assert run("-c", load) == "[]\n"
