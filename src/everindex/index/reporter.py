"""The reporter of an operation: receives its sentences, PostgreSQL's notices and build progress; by default, the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from everindex.index.activity.progress import Progress

log = logging.getLogger("everindex.index")


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Three callbacks for sentences, notices and progress; the default is the log."""

    say: Callable[[str], None] = log.info
    notice: Callable[[str], None] = log.info
    progress: Callable[[Progress], None] | None = None
