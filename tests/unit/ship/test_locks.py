"""The lock files: every dependency by version and hash, from whatever index the person has who installs."""

from __future__ import annotations

import re
import tomllib

import pytest

from repository import REPOSITORY

LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-adapters.lock")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: str) -> dict[str, str]:
    """{distribution: version}; one that has different versions on different Pythons has them all."""
    found: dict[str, str] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==(\S+)", text_of(lock), re.MULTILINE):
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def text_of(lock: str) -> str:
    return (REPOSITORY / lock).read_text(encoding="utf-8")


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_no_address(lock: str) -> None:
    for word in ("http:", "https:", "--index-url", "--extra-index-url", "--find-links", "file:", " @ ", "/"):
        assert word not in text_of(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", text_of(lock), flags=re.MULTILINE)[1:]
    assert len(blocks) > 30
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = PROJECT["project"]
    assert names(project["dependencies"]) <= set(pins("requirements.lock"))
    extras = project["optional-dependencies"]
    assert names(extras["test"]) <= set(pins("requirements-test.lock"))
    for extra in ("langchain", "llamaindex", "mcp", "test-adapters"):
        assert names(extras[extra]) - {"everindex"} <= set(pins("requirements-adapters.lock"))


def test_the_project_can_be_built_from_its_lock_without_a_network() -> None:
    assert names(PROJECT["build-system"]["requires"]) | {"editables"} <= set(pins("requirements.lock"))


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_tests_run_with_the_versions_that_are_shipped(lock: str) -> None:
    shipped, tested = pins("requirements.lock"), pins(lock)
    assert {name: tested.get(name) for name in shipped} == shipped
