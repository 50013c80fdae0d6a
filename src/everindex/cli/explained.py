"""The explanation of a search in the terminal: strategy, settings, statement and plan."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from everindex.articles.search.keyword.explanation import WordsExplanation
from everindex.articles.search.vector.explanation import Explanation
from everindex.cli.output import say


def print_explanation(explanation: Explanation) -> None:
    """Prints the strategy and its reason, settings, statement and plan, after the hits."""
    search_plan = explanation.search_plan
    say(f"\nstrategy: {search_plan.strategy} ({search_plan.reason})")
    if search_plan.settings:
        say(
            f"settings: {', '.join(f'{name} = {value}' for name, value in search_plan.settings)}, for this statement "
            f"only"
        )
    if explanation.statement:
        _say_statement(explanation.statement, explanation.plan)
    if explanation.passages is not None:
        say("\npassages of whole texts:")
        print_explanation(explanation.passages)


def print_words_explanation(explanation: WordsExplanation) -> None:
    """Prints how the words were found."""
    say("\nwords:")
    _say_statement(explanation.statement, explanation.plan)


def _say_statement(statement: str, plan: Sequence[str]) -> None:
    say("statement:")
    say(textwrap.fill(statement, 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
    say("plan:")
    for line in plan:
        say(f"  {line}")
