"""Commands inside messages, as JSON and pages show them."""

from __future__ import annotations

import ast
import re

import pytest

from everindex.errors import UsageError
from everindex.message_text import with_backticks
from everindex.web.pages.render import message_html
from source_trees import source_trees


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("run  everindex heal : it builds", "run `everindex heal`: it builds"),
        ("run  everindex plan  and  everindex deploy , or not", "run `everindex plan` and `everindex deploy`, or not"),
        ("run  everindex migrate  (or alembic upgrade head).", "run `everindex migrate` (or alembic upgrade head)."),
        ("(it is  everindex up .)", "(it is `everindex up`.)"),
        ("let its owner run  GRANT SELECT ON a, b TO c .", "let its owner run `GRANT SELECT ON a, b TO c`."),
        ("go on with  everindex doctor", "go on with `everindex doctor`"),
        ("imported by  everindex import.", "imported by `everindex import`."),
        ("it is `here` already", "it is `here` already"),
        ("two words, and no command", "two words, and no command"),
    ],
)
def test_a_command_stands_between_backticks_without_a_loose_space(message: str, shown: str) -> None:
    assert with_backticks(message) == shown
    assert with_backticks(shown) == shown


def test_a_page_shows_it_as_code_and_escapes_what_is_in_it() -> None:
    assert message_html("run  everindex heal : it <b>builds") == "run <code>everindex heal</code>: it &lt;b&gt;builds"
    assert message_html("run  a < b , then") == "run <code>a &lt; b</code>, then"


def test_json_of_an_error_has_none_of_the_spaces_of_the_terminal() -> None:
    error = UsageError("no  a .", why="it is  b ; so.", next_step="run  c  again.")
    assert error.as_dict() == {
        "slug": "bad-input",
        "what": "no `a`.",
        "why": "it is `b`; so.",
        "next": "run `c` again.",
    }
    assert str(error).endswith("next: run  c  again.")


def texts() -> list[tuple[str, str]]:
    """(file, text) of every sentence in the sources that names a command of everindex, with `x` for what it is composed with."""
    found = []
    for module, tree in source_trees().items():
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)):
                    found.append((module, text))
                case ast.JoinedStr(values=values):
                    parts = [part.value if isinstance(part, ast.Constant) else "x" for part in values]
                    found.append((module, "".join(str(part) for part in parts)))
    return [(name, text) for name, text in found if "  everindex " in text and "\n" not in text]


def test_no_message_keeps_a_loose_space_or_makes_a_command_of_more_than_one() -> None:
    found = texts()
    assert len(found) > 60
    for name, text in found:
        shown = with_backticks(text)
        assert "  " not in shown.strip(), (name, shown)
        assert not re.search(r"` [.,;:](\s|$)", shown), (name, shown)
        for command in re.findall(r"`(everindex [^`]*)`", shown):
            assert len(command) < 80, command
            assert not re.search(r"[.;:,] [a-z]| (and|or|which|then|to|for|is) ", command), command
