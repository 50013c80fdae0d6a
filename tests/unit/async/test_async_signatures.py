"""The asynchronous classes have every public method of the others, with its parameters and its documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import everindex
from everindex.articles.async_instance import AsyncIncidents, AsyncSavedSearches
from everindex.articles.collections.collection import Collection
from everindex.articles.connect import connect_instance
from everindex.articles.incident_records import Incidents
from everindex.articles.saved_searches import SavedSearches

PAIRS = [
    pytest.param(everindex.Instance, everindex.AsyncInstance, id="instance"),
    pytest.param(Collection, everindex.AsyncCollection, id="collection"),
    pytest.param(Incidents, AsyncIncidents, id="incidents"),
    pytest.param(SavedSearches, AsyncSavedSearches, id="saved searches"),
]
#: What waits for nothing is no coroutine.
PLAIN = {"invalidate", "pool_stats", "why_unreachable"}
#: A context manager, of an asynchronous connection.
OTHER = {"connection"}
#: The model itself; `embed_query` gives its vectors.
WITHOUT = {"embedder"}


def methods(of: type) -> dict[str, Callable[..., Any]]:
    return {name: what for name, what in inspect.getmembers(of, inspect.isfunction) if not name.startswith("_")}


def properties(of: type) -> set[str]:
    return {name for name, what in inspect.getmembers(of) if isinstance(what, property) and not name.startswith("_")}


@pytest.mark.parametrize(("plain", "asynchronous"), PAIRS)
def test_every_method_has_its_coroutine_with_the_same_parameters_and_documentation(
    plain: type, asynchronous: type
) -> None:
    wanted, found = methods(plain), methods(asynchronous)
    assert set(wanted) <= set(found)
    for name in set(wanted) - OTHER:
        assert inspect.signature(found[name]).parameters == inspect.signature(wanted[name]).parameters, name
        if name != "close":
            assert inspect.getdoc(found[name]) == inspect.getdoc(wanted[name]), name
        assert inspect.iscoroutinefunction(found[name]) == (name not in PLAIN), name


@pytest.mark.parametrize(("plain", "asynchronous"), PAIRS)
def test_what_is_no_method_there_is_a_property_or_a_coroutine_here(plain: type, asynchronous: type) -> None:
    here = properties(asynchronous) | set(methods(asynchronous))
    assert properties(plain) - here <= WITHOUT


def test_it_is_opened_with_the_same_parameters() -> None:
    assert inspect.signature(everindex.connect_async).parameters == inspect.signature(connect_instance).parameters
