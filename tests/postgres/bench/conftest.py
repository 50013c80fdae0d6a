"""The measurements of bench/ import each other by name, as scripts of one directory do."""

from __future__ import annotations

from pathlib import Path

import pytest

from repository import REPOSITORY


@pytest.fixture(autouse=True)
def _bench_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = REPOSITORY / "bench"
    monkeypatch.syspath_prepend(str(folder / "subjects"))
    monkeypatch.syspath_prepend(str(folder))
