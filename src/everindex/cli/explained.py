"""How does a search explain itself in the terminal?"""

from __future__ import annotations

import textwrap

from everindex.articles.search.explained import Explanation
from everindex.cli.output import say


def print_explanation(explanation: Explanation) -> None:
    """Strategy and why, settings, statement and plan, after the hits."""
    approach = explanation.approach
    say(f"\nstrategy: {approach.strategy}, since {approach.reason}")
    if approach.settings:
        say(
            f"settings: {', '.join(f'{name} = {value}' for name, value in approach.settings)}, for this statement alone"
        )
    if explanation.statement:
        say("statement:")
        say(
            textwrap.fill(
                explanation.statement, 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
        )
        say("plan:")
        for line in explanation.plan:
            say(f"  {line}")
