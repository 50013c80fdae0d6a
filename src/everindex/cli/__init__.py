"""The command line: one file per command, one place (run) where errors become three lines and an exit status."""

from everindex.cli.run import main

__all__ = ["main"]
