"""The entry point of the `everindex` command: signals, and errors as three lines with an exit status."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

from everindex import __version__
from everindex.cli.app import Invocation, app
from everindex.errors import EverindexError, InternalError


def main() -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 usage, 3 a check failed, 130 interrupted."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Must be set before numpy is loaded. Our matrix products are small: a second OpenBLAS thread would not make them
    # faster, but spins on a core that the database could use.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        # Characters that a terminal cannot show are escaped, so that the command does not fail because of them.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    invocation = Invocation()
    invocation.begin = lambda: _begin(invocation)
    try:
        app(obj=invocation)
    except EverindexError as exc:
        if invocation.is_debugged:
            raise
        _tell(exc)
        sys.exit(exc.exit_status)
    except KeyboardInterrupt:
        from everindex.cli.output import tell

        tell("interrupted")
        sys.exit(130)
    except Exception as exc:
        if invocation.is_debugged:
            raise
        _tell(
            InternalError(
                "unexpected error in everindex.",
                why=f"{type(exc).__name__}: {_one_line(exc)}",
                next_step="run the same command with --debug and report its output.",
            )
        )
        sys.exit(1)


def _begin(invocation: Invocation) -> None:
    from everindex.cli.logs import configure_logging
    from everindex.settings import read_settings
    from everindex.tracing import start_tracing

    configure_logging(read_settings(), is_verbose=invocation.is_verbose, is_debugged=invocation.is_debugged)
    start_tracing(__version__)


def _tell(exc: EverindexError) -> None:
    from everindex.cli.given_declaration import as_advised
    from everindex.cli.output import print_json, tell

    exc.next_step = as_advised(exc.next_step)
    if "--json" in sys.argv:
        print_json({"error": exc.as_dict()})
    elif "--output" in " ".join(sys.argv):
        from everindex.cli.ci_report import print_failure

        print_failure(sys.argv[1:], exc)
    tell(str(exc))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _one_line(exc: BaseException) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0][:300] if lines else "no text"
