"""The options that name the collection a command works on; without them, the articles, or all that is declared."""

from __future__ import annotations

from typing import Annotated

import typer

CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", metavar="NAME", help="The collection to work on, instead of the articles."),
]
OneCollectionOption = Annotated[
    str | None,
    typer.Option(
        "--collection", metavar="NAME", help="Only the indexes of this collection (`articles` for the articles)."
    ),
]
"""Of commands that work on every declared index."""
