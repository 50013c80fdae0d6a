"""The tree of errors as `everindex.errors` draws it."""

from __future__ import annotations

from collections.abc import Iterator

from everindex import errors
from everindex.errors import EverindexError
from source_trees import all_modules


def drawn(kind: type[EverindexError], depth: int = 2) -> Iterator[str]:
    yield f"{'  ' * depth}{kind.__name__}".ljust(34) + kind.slug
    for narrower in kind.__subclasses__():
        if narrower.__module__.startswith("everindex."):
            yield from drawn(narrower, depth + 1)


def test_the_docstring_of_errors_draws_every_error_of_everindex() -> None:
    list(all_modules())
    in_docstring = [line for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    assert in_docstring == list(drawn(EverindexError))


def test_every_error_lives_in_errors() -> None:
    for module in all_modules():
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, EverindexError):
                assert value.__module__ == "everindex.errors", f"{module.__name__}.{name}"
