"""The checks of an index in the terminal."""

from __future__ import annotations

from collections.abc import Callable

from everindex.cli.given_declaration import as_advised
from everindex.index.recall.proof import Verification


def print_proofs(result: Verification, *, to: Callable[[str], None]) -> None:
    """Prints a line for each check, with what to do if it failed, those of several collections below their names."""
    marks = {True: "✓", False: "✗", None: "–"}
    collection = None
    for proof in result.proofs:
        if proof.collection != collection:
            collection = proof.collection
            to(f"{collection}:")
        to(f"{marks[proof.holds if proof.is_checked else None]} {proof.sentence}")
        if proof.next_step:
            to(f"    next: {as_advised(proof.next_step)}")
    for note in result.notes:
        to(f"! {note.sentence}")
        to(f"    next: {as_advised(note.next_step)}")
