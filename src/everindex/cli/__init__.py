"""The command line: one file per command; `run` turns errors into three lines and an exit status."""

from everindex.cli.run import main

__all__ = ["main"]
