"""The settings of this process for operators: value and source of each, with secrets masked.

A value that may hold a secret is never shown, not even in part: passwords and keys, and every address.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import AliasChoices, SecretStr

from everindex.env_file import read_env_file
from everindex.settings import ENV_FILE, FILE_VARIABLES, Settings

Source = Literal["environment", ".env", "secret file", "default"]
MASKED = "set, not shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """One setting."""

    name: str
    """Its environment variable."""

    value: str
    """As it is written, or MASKED; empty where it is not set."""

    source: Source


def shown_settings(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[ShownSetting]:
    """Every setting, by name. Raises SettingInvalid for a `.env` that cannot be read."""
    names = {
        field: str(info.validation_alias.choices[0])
        for field, info in type(settings).model_fields.items()
        if isinstance(info.validation_alias, AliasChoices)
    }
    in_file = read_env_file(ENV_FILE, names=[*names.values(), *(f"{name}_FILE" for name in FILE_VARIABLES)])
    return sorted(
        (
            ShownSetting(
                name=name, value=_shown(name, getattr(settings, field)), source=_source(name, environment, in_file)
            )
            for field, name in names.items()
        ),
        key=lambda setting: setting.name,
    )


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr) or any(word in name for word in ("URL", "PASSWORD", "KEY", "SECRET", "TOKEN")):
        return MASKED
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _source(name: str, environment: Mapping[str, str], in_file: Mapping[str, str]) -> Source:
    if name in environment or name.lower() in environment:
        return "environment"
    if f"{name}_FILE" in environment:
        return "secret file"
    if name in in_file:
        return ".env"
    return "secret file" if f"{name}_FILE" in in_file else "default"
