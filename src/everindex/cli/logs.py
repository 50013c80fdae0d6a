"""The log of the command line: records on stderr, for people or as JSON (EVERINDEX_LOG_FORMAT).

What renders them is loaded with the first record: most commands write none.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from everindex.settings import Settings

if TYPE_CHECKING:
    import structlog


class _Rendered(logging.Formatter):
    """Renders as structlog does."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = _formatter(self._settings)
        return self._formatter.format(record)


def configure_logging(settings: Settings, *, is_debugged: bool = False) -> None:
    """Records to stderr, from EVERINDEX_LOG_LEVEL on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Rendered(settings))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("everindex").setLevel(logging.DEBUG if is_debugged else settings.log_level)
    # The query log belongs to a server (cli/serve.py switches it on); a single search prints its time itself.
    logging.getLogger("everindex.search").setLevel(logging.DEBUG if is_debugged else logging.WARNING)
    # Chatty at INFO about themselves; the errors of a pool that cannot connect are told by whoever asked for it.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    if settings.openai_api_key is not None or settings.openai_base_url is not None:
        _configure_structlog()


def _configure_structlog() -> None:
    """Whoever logs through structlog itself (stamina, when an endpoint is asked again) goes the same way: unconfigured, it
    prints to stdout, in the middle of the result."""
    import structlog

    structlog.configure(
        processors=[*_shared()[:3], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _shared() -> list[structlog.typing.Processor]:
    import structlog

    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]


def _formatter(settings: Settings) -> logging.Formatter:
    import structlog

    is_json = settings.log_format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
            # Locals in tracebacks would show connection strings.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if is_json else []),
            renderer,
        ],
    )
