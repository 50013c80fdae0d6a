"""`everindex expire` and `everindex delete --expired`, as an operator runs them."""

from __future__ import annotations

import pytest

from command_line import everindex, url_of


def test_articles_expire_and_are_deleted(filled: str) -> None:
    url = url_of(filled)
    first, second = (
        hit["uri"] for hit in everindex("search", "memory leak", "-k", "2", "--json", DATABASE_URL=url).json["hits"]
    )
    done = everindex("expire", first, "--at", "2020-01-31", DATABASE_URL=url)
    assert (done.status, done.stdout) == (0, "1 article · expires: 2020-01-31T00:00:00+00:00\n")
    assert everindex("expire", second, "--at", "2999", "--json", DATABASE_URL=url).json["articles"] == 1
    found = everindex("search", "memory leak", "-k", "2", "--json", DATABASE_URL=url).json["hits"]
    assert found[0]["uri"] == second
    assert everindex("delete", "--expired", "--dry-run", "--json", DATABASE_URL=url).json["matching"] == 1
    assert everindex("delete", "--expired", DATABASE_URL=url).status == 2, "nobody has confirmed it"
    assert everindex("delete", "--expired", "--yes", "--json", DATABASE_URL=url).json["deleted"] == 1
    assert everindex("article", first, DATABASE_URL=url).status == 1
    assert everindex("expire", second, "--never", DATABASE_URL=url).status == 0


@pytest.mark.parametrize(
    "arguments",
    [["expire", "x"], ["expire", "x", "--at", "soon"], ["expire", "x", "--at", "2020", "--never"],
     ["delete", "--expired", "x"], ["delete", "--orphans", "x"], ["delete", "--orphans", "--expired"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_not_clear_is_a_usage_error(filled: str, arguments: list[str]) -> None:
    refused = everindex(*arguments, DATABASE_URL=url_of(filled))
    assert (refused.status, "next:" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr
