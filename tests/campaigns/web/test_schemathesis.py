"""schemathesis, with all its checks, finds nothing in which the server and its OpenAPI document disagree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from access_fixtures import let_in, served
from clusters import Cluster

#: Any seed will do; a fixed one makes a failure come again.
SHORT = ["--max-examples=8", "--phases=fuzzing", "--no-shrink", "--seed=10"]
LONG_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "300"))
COMMAND = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


#: Beside what schemathesis expects: 413, since how large an answer will be is not in a request's schema, and 431 of an address
#: that is longer than any server reads.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 403, 404, 409, 413, 429, "5xx"]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, 431, "5xx"]
"""


def assert_nothing_found(web_url: str, folder: Path, options: list[str], *, authorization: str | None = None) -> None:
    """`authorization` is a header that every request has, except those that try without it."""
    (folder / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    # A process of its own: here the server runs, in a thread.
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", f"{web_url}/openapi.json", "--checks=all", "--continue-on-failure",
         "--no-color", "--generation-database=:memory:", *options,
         *(["--header", f"Authorization: {authorization}"] if authorization else [])],
        cwd=folder, capture_output=True, text=True, timeout=3600, check=False,
        env={**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    paths = httpx2.get(f"{web_url}/openapi.json", timeout=30).json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    assert f"{operations} selected / {operations} total" in done.stdout


def test_the_server_and_its_document_agree(web_url: str, tmp_path: Path) -> None:
    assert_nothing_found(web_url, tmp_path, SHORT)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 4))
def test_the_server_and_its_document_agree_whatever_is_sent(web_url: str, tmp_path: Path, seed: int) -> None:
    assert_nothing_found(web_url, tmp_path, [f"--max-examples={LONG_EXAMPLES}", f"--seed={seed}"])


@pytest.mark.long
def test_a_server_that_asks_for_a_token_and_its_document_agree_whatever_is_sent(
    cluster: Cluster, tmp_path: Path
) -> None:
    """All requests have a token that may do everything, and schemathesis tries each operation without one, too."""
    options = [f"--max-examples={LONG_EXAMPLES}", "--seed=1"]
    conninfo = cluster.database("with_articles")
    people = let_in(conninfo)
    with served(conninfo, EVERINDEX_REQUESTS_PER_MINUTE="0") as (_, url):
        assert_nothing_found(url, tmp_path, options, authorization=f"Bearer {people.tokens['operate']}")
