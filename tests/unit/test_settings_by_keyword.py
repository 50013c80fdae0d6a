"""Settings made by a program: by the names of the variables, and nothing that is written is passed over."""

from __future__ import annotations

import pytest

from everindex.errors import SettingInvalid
from everindex.settings import Settings


def test_a_setting_is_named_as_its_variable() -> None:
    assert Settings(EVERINDEX_RERANK=20).rerank == 20


@pytest.mark.parametrize(
    ("keyword", "next_step"),
    [("rerank", "write EVERINDEX_RERANK=…"), ("EVERINDEX_RERANKS", "did you mean EVERINDEX_RERANK?"), ("x", "lists them all")],
)  # fmt: skip
def test_a_keyword_that_is_no_setting_is_refused_and_the_variable_named(keyword: str, next_step: str) -> None:
    with pytest.raises(SettingInvalid, match=f"there is no setting '{keyword}'") as refused:
        Settings(**{keyword: 20})
    assert next_step in refused.value.next_step


@pytest.mark.parametrize("value", ["many", -1, 201, [20]])
def test_a_value_of_another_kind_or_range_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(SettingInvalid, match="EVERINDEX_RERANK cannot be used") as refused:
        Settings(EVERINDEX_RERANK=value)
    assert "many" not in str(refused.value)
