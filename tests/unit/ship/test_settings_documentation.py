"""docs/settings.md and .env.example against settings.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from everindex.settings import FILE_VARIABLES, Settings
from repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
EXAMPLE = (REPOSITORY / ".env.example").read_text(encoding="utf-8")


def documented() -> dict[str, tuple[str, str]]:
    """{variable: (default, what it takes)} of the tables with four columns."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    return {name: (default, takes) for name, default, takes in rows}


def settings() -> dict[str, object]:
    """{variable: default}; PydanticUndefined where the default is found out at the start."""
    found: dict[str, object] = {}
    for field in Settings.model_fields.values():
        assert field.validation_alias is not None
        found[str(field.validation_alias.choices[0])] = field.default  # type: ignore[union-attr]
    return found


def limits(variable: str) -> list[float]:
    """The ends of its range, of numbers."""
    alias = {str(field.validation_alias.choices[0]): field for field in Settings.model_fields.values()}  # type: ignore[union-attr]
    ends = (getattr(rule, name, None) for rule in alias[variable].metadata for name in ("ge", "gt", "le", "lt"))
    return [end for end in ends if end is not None]


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert set(documented()) == set(settings())


@pytest.mark.parametrize("variable", sorted(settings()))
def test_the_documented_default_is_the_real_one(variable: str) -> None:
    default = settings()[variable]
    shown = documented()[variable][0]
    if default is None:
        assert shown == "not set"
    elif default is not PydanticUndefined:
        value = f"{default:g}" if isinstance(default, float) else str(default)
        value = value.lower() if isinstance(default, bool) else value
        assert shown == f"`{value}`"


@pytest.mark.parametrize("variable", sorted(settings()))
def test_the_documented_range_is_the_real_one(variable: str) -> None:
    numbers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", documented()[variable][1])}
    assert set(limits(variable)) <= numbers


def test_files_for_secrets_are_documented() -> None:
    for variable in FILE_VARIABLES:
        assert f"`{variable}_FILE`" in PAGE


def test_the_example_lists_every_setting_commented_out_with_its_default() -> None:
    lines = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(lines) == set(settings())
    assert not [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    for variable, default in settings().items():
        if isinstance(default, bool):
            assert lines[variable] == str(default).lower()
        elif isinstance(default, int | float):
            assert float(lines[variable]) == default, variable


def test_the_example_can_be_used_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(EXAMPLE, encoding="utf-8")
    assert Settings().uses_embedded_server
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE), encoding="utf-8")
    assert Settings().database_url is not None
