"""The option that names the collection a command works on; without it, the articles."""

from __future__ import annotations

from typing import Annotated

import typer

CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", metavar="NAME", help="The collection to work on, instead of the articles."),
]
