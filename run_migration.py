"""The manual migration: `python run_migration.py` is `everindex migrate`, with the same arguments and exit status."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `everindex migrate` with the arguments of this script."""
    try:
        from everindex.cli import main as everindex
    except ModuleNotFoundError as exc:
        sys.exit(
            f"not-installed: {exc.name} is not installed in this Python ({sys.executable}).\n"
            "  why:  run_migration.py only calls `everindex migrate`, which is not installed here.\n"
            "  next: source .venv/bin/activate, or pip install everindex; then run it again."
        )
    sys.argv[1:] = ["migrate", *sys.argv[1:]]
    everindex()


if __name__ == "__main__":
    main()
