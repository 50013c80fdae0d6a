"""How does the `everindex` command start and end? Logging, signals, and errors as three lines with an exit status."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from types import FrameType

import structlog

from everindex.cli.output import print_json, tell
from everindex.errors import EverindexError
from everindex.settings import read_settings


def main() -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 usage, 3 a proof does not hold, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    # To be said before numpy is loaded. Our products are small: a second thread of OpenBLAS would not make them faster, but
    # spins on its core after each, which the database has a use for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows its escape; the command does not fail over it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        configure_logging(debug=debug)
        from everindex.cli.app import app

        app()
    except EverindexError as exc:
        if debug:
            raise
        if "--json" in sys.argv:
            print_json({"error": exc.as_dict()})
        tell(str(exc))
        sys.exit(exc.exit_status)
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(130)
    except Exception as exc:
        if debug:
            raise
        tell(
            f"internal: everindex met an error that it does not know.\n  why:  {type(exc).__name__}: {_one_line(exc)}\n"
            "  next: run the same command with --debug and report what it prints."
        )
        sys.exit(1)


def configure_logging(*, debug: bool = False) -> None:
    """Log lines to stderr, for people or as JSON (EVERINDEX_LOG_FORMAT), from EVERINDEX_LOG_LEVEL on."""
    settings = read_settings()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
            # Locals in tracebacks would show connection strings.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info if settings.log_format == "json" else _pass,
            renderer,
        ],
    )
    # Whoever logs through structlog itself (stamina, when an endpoint is asked again) goes the same way: unconfigured, it
    # prints to stdout, in the middle of the result.
    structlog.configure(
        processors=[*shared[:3], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("everindex").setLevel(logging.DEBUG if debug else settings.log_level)
    # The query log belongs to a server (cli/serve.py switches it on); a single search prints its time itself.
    logging.getLogger("everindex.search").setLevel(logging.DEBUG if debug else logging.WARNING)
    # Chatty at INFO about themselves; the errors of a pool that cannot connect are told by whoever asked for it.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _pass(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _one_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else "no text"
