"""The example of the library, as the design gives it, on a server of its own and on a named one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import everindex


@dataclass
class Item:
    uri: str
    title: str
    category: str


def articles_of(count: int) -> list[Item | dict[str, str]]:
    items: list[Item | dict[str, str]] = [Item("memory", "A memory leak in the parser is fixed", "Security")]
    return [*items, *({"uri": f"u{number}", "title": f"News number {number}"} for number in range(1, count))]


def use(array: np.ndarray, uri: str) -> None:
    """The example, word for word but for what its variables hold."""
    articles, vector = articles_of(len(array)), array[0]
    with everindex.connect() as instance:
        instance.upsert(articles)
        instance.upsert(articles, vectors=array)
        found = instance.search_vector(vector, k=3, filters={"category": "Security"}, ef_search=100, exact=False)
        assert [hit.uri for hit in found.hits] == ["memory"]
        instance.upsert([{"uri": "memory", "title": "A memory leak in the parser is fixed again"}])
        answer = instance.search("memory leak in the parser", k=10, filters={"category": "Security"})
        assert [hit.uri for hit in answer.hits] == ["memory"]
        assert len(instance.similar(uri, k=2).hits) == 2
        verification = instance.verify()
        assert [proof.name for proof in verification.proofs] == ["revision", "index", "planner", "recall"]
        assert verification.holds


def test_the_example_of_the_library_works_on_the_server_of_database_url(
    migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", migrated)
    array = np.random.default_rng(1).standard_normal((20, 1536)).astype(np.float32)
    use(array, "u7")


def test_without_any_setting_the_library_starts_a_server_of_its_own_and_says_what_to_run(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERINDEX_HOME", str(place / "home"))
    with everindex.connect() as instance, pytest.raises(everindex.EverindexError) as raised:
        instance.search("anything")
    assert "everindex migrate" in str(raised.value)
