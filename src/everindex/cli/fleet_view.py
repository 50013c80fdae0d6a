"""The view of a fleet operation: a live table on a terminal, otherwise a line for each target; and its result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from everindex.cli.output import harmless, is_terminal, say, tell, terminal
from everindex.fleet.results import OUTCOMES, FleetReport, TargetResult

if TYPE_CHECKING:
    from rich.live import Live

    from everindex.fleet.rollout import Observer

#: Rows of targets that run, and of those that did not pass, in the live table.
SHOWN = 8
_COLOURS = {
    "done": "green", "unchanged": "green", "failed": "red", "finding": "yellow", "skipped": "yellow", "stopped": "yellow",
    "not-begun": "yellow",
}  # fmt: skip


class _Lines:
    """One line on stderr for each target that ends."""

    def inspected(self, targets: int, servers: int) -> None:
        tell(f"{targets} targets on {servers} servers" if servers != 1 else f"{targets} targets on 1 server")

    def begun(self, name: str) -> None:
        pass

    def ended(self, result: TargetResult) -> None:
        tell(line_of(result))

    def tick(self) -> None:
        pass


class _Table:
    """A table that is drawn anew whenever something changes."""

    def __init__(self, live: Live, verb: str) -> None:
        self._live, self._verb = live, verb
        self._targets = self._servers = 0
        self._running: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._bad: list[TargetResult] = []
        self.tick()

    def inspected(self, targets: int, servers: int) -> None:
        self._targets, self._servers = targets, servers
        self.tick()

    def begun(self, name: str) -> None:
        self._running[name] = time.monotonic()
        self.tick()

    def ended(self, result: TargetResult) -> None:
        self._running.pop(result.name, None)
        self._counts[result.outcome] += 1
        if result.outcome not in ("done", "unchanged"):
            self._bad = [*self._bad, result][-SHOWN:]
        self.tick()

    def tick(self) -> None:
        self._live.update(self._drawn(), refresh=True)

    def _drawn(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        done = sum(self._counts.values())
        told = ", ".join(f"{self._counts[one]} {one.replace('-', ' ')}" for one in OUTCOMES if self._counts[one])
        title = f"fleet {self._verb}: {done} of {self._targets} targets, {self._servers} servers" + (
            f": {told}" if told else ""
        )
        table = Table(
            title=title if self._targets else f"fleet {self._verb}: inspecting the targets", title_justify="left"
        )
        for column in ("target", "state", "seconds"):
            table.add_column(column, overflow="fold")
        for result in self._bad:
            state = Text(
                f"{result.outcome.replace('-', ' ')}: {harmless(result.sentence)}", style=_COLOURS[result.outcome]
            )
            table.add_row(Text(harmless(result.name)), state, f"{result.seconds:.1f}")
        for name, since in list(self._running.items())[:SHOWN]:
            table.add_row(Text(harmless(name)), "running", f"{time.monotonic() - since:.0f}")
        return table


@contextmanager
def watching(verb: str) -> Iterator[Observer]:
    """The observer that suits stderr."""
    if not is_terminal():
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=terminal(), transient=True, auto_refresh=False) as live:
        yield _Table(live, verb)


def line_of(result: TargetResult) -> str:
    """One target in one line."""
    return f"{result.name}: {result.outcome.replace('-', ' ')} in {result.seconds:.1f} s: {result.sentence}"


def print_report(report: FleetReport, *, is_listed: bool) -> None:
    """The summary for people, with what did not pass; with `is_listed`, every target."""
    for result in report.results:
        if not is_listed and result.outcome in ("done", "unchanged"):
            continue
        say(f"{result.name} ({result.where}): {result.outcome.replace('-', ' ')}, {result.kind.replace('-', ' ')}")
        say(f"  {result.sentence}")
        if result.next_step is not None:
            say(f"  next: {result.next_step}")
        for warning in result.warnings:
            say(f"  warning: {warning}")
    for remark in report.remarks:
        say(f"limit: {remark}")
    if report.closed is not None:
        say(f"the rollout stopped: {report.closed}")
        say("  next: correct what failed, and run the same command again: it continues with what is not done.")
    say(report.summary)
