"""The reporter of an operation: receives its sentences, PostgreSQL's notices and build progress; by default, the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from everindex.index.activity.progress import Progress

log = logging.getLogger("everindex.index")


def log_sentence(text: str) -> None:
    """Writes a sentence of an operation to the log."""
    log.info("%s", text, extra={"event": "deploy-progress"})


def log_notice(text: str) -> None:
    """Writes a notice of PostgreSQL to the log."""
    log.info("%s", text, extra={"event": "server-notice"})


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Three callbacks for sentences, notices and progress; the default is the log."""

    say: Callable[[str], None] = log_sentence
    notice: Callable[[str], None] = log_notice
    progress: Callable[[Progress], None] | None = None


def in_background() -> Reporter:
    """A reporter for work that nobody watches: sentences to the log, notices as debug lines."""

    def notice(text: str) -> None:
        log.debug("%s", text, extra={"event": "build-notice"})

    return Reporter(say=log_sentence, notice=notice)
