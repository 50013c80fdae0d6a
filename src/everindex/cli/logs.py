"""The log of the command line. Into a pipe or file it writes log records, as text or JSON (EVERINDEX_LOG_FORMAT).

On a terminal log records would only interrupt the output, so there are none without `-v`. What a person must know
anyway gets a plain line: warnings, and the keeper's actions.

The renderer is loaded with the first record, since most commands write none.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from everindex.cli.output import is_terminal, tell, terminal
from everindex.request_context import REQUEST_ID
from everindex.settings import Settings
from everindex.tracing import trace_id

if TYPE_CHECKING:
    import structlog


class Rendered(logging.Formatter):
    """Renders records with structlog."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = _formatter(self._settings)
        return self._formatter.format(record)


class _OnTerminal(logging.Handler):
    """Writes records above any progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        terminal().print(Text.from_ansi(self.format(record)))


class _ForPeople(logging.Handler):
    """Formats a record as a line without time, level and logger, for a person at the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            kind = "error" if record.levelno >= logging.ERROR else "warning"
            tell(f"{kind}: {_sentence(record)}")
            if record.exc_info and record.exc_info[1] is not None:
                lines = str(record.exc_info[1]).strip().splitlines() or ["no text"]
                tell(f"  why:  {type(record.exc_info[1]).__name__}: {lines[0]}\n  next: -v shows the full traceback.")
        elif record.name in TOLD and record.levelno >= logging.INFO:
            tell(record.getMessage())


def _sentence(record: logging.LogRecord) -> str:
    """The text of a record; for a structlog event (a retry of an endpoint) its name and cause."""
    if isinstance(record.msg, dict):
        return ": ".join(str(record.msg[name]) for name in ("event", "caused_by") if name in record.msg)
    return record.getMessage()


#: Loggers whose sentences are shown to people unchanged.
TOLD = ("everindex.index.keeper.loop",)


def _handler(settings: Settings, *, is_verbose: bool) -> logging.Handler:
    if is_terminal() and not is_verbose:
        return _ForPeople()
    handler = _OnTerminal() if is_terminal() else logging.StreamHandler(sys.stderr)
    handler.setFormatter(Rendered(settings))
    return handler


def configure_logging(settings: Settings, *, is_verbose: bool = False, is_debugged: bool = False) -> None:
    """Configures logging from EVERINDEX_LOG_LEVEL upwards; with `is_verbose`, each search too."""
    root = logging.getLogger()
    root.handlers[:] = [_handler(settings, is_verbose=is_verbose or is_debugged)]
    root.setLevel(logging.WARNING)
    logging.getLogger("everindex").setLevel(logging.DEBUG if is_debugged else settings.log_level)
    # The query log is for servers (cli/serve.py enables it); a single search prints its time itself.
    if not (is_verbose or is_debugged):
        logging.getLogger("everindex.search").setLevel(logging.WARNING)
    # These loggers are verbose at INFO; errors of a pool that cannot connect are reported by its caller.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    if settings.openai_api_key is not None or settings.openai_base_url is not None:
        _configure_structlog()


def _configure_structlog() -> None:
    """Routes libraries that use structlog (stamina, when it retries an endpoint) to the same log: unconfigured, they
    print to stdout in the middle of the result."""
    import structlog

    structlog.configure(
        processors=[*_shared()[:3], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _as_event(logger: object, level: str, values: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Gives a line its stable name as `event` and its text as `message`, and the request and trace that it belongs to. Lines of
    libraries have the name of their logger."""
    record = values.get("_record")
    if record is None or isinstance(record.msg, dict):  # structlog's own events have names already
        return values
    text = str(values["event"])
    name = getattr(record, "event", record.name)
    values["event"], values["message"] = name, text.removeprefix(f"{name}: ")
    for key, value in (("request_id", REQUEST_ID.get()), ("trace_id", trace_id())):
        if value is not None:
            values.setdefault(key, value)
    return values


def _in_one_text(logger: object, level: str, values: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For readers of text: name and message are one, and what the message says already is not said again."""
    message = values.pop("message", None)
    if message is None:
        return values
    kept = {
        name: values[name]
        for name in ("request_id", "trace_id", "timestamp", "level", "logger", "exc_info")
        if name in values
    }
    return kept | {"event": f"{values['event']}: {message}"}


def _shared() -> list[structlog.typing.Processor]:
    import structlog

    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _as_event,
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
            # Local variables in tracebacks would show connection strings.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if is_json else [_in_one_text]),
            renderer,
        ],
    )
