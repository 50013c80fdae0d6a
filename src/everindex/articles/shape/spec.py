"""The declaration of a collection: which table is searched, and what each of its columns is to a search.

The articles are one collection (`articles/declared.py`); others are created by `Instance.collection`, or declared over an
existing table by `Instance.collection_of`. A declaration names columns and promises nothing about them: `read_table` compares
it with the catalog.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from everindex.errors import CollectionInvalid
from everindex.index.spec import MAX_DIMENSIONS, MAX_NAME_BYTES, IndexSpec

Metric = Literal["cosine", "l2", "inner_product"]
METRICS: tuple[Metric, ...] = get_args(Metric)
#: Metric → pgvector's operator, and the part of an operator class that names it.
OPERATORS = {"cosine": ("<=>", "cosine"), "l2": ("<->", "l2"), "inner_product": ("<#>", "ip")}
#: The widest column of each type that pgvector stores (vector.h: VECTOR_MAX_DIM, halfvec.h: HALFVEC_MAX_DIM).
MAX_COLUMN_DIMENSIONS = 16_000
VectorType = Literal["vector", "halfvec"]
VECTOR_TYPES: tuple[VectorType, ...] = get_args(VectorType)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a hit, in the order in which every search selects them: the key, the texts, the metadata."""

    names: tuple[str, ...]
    texts: int
    metric: Metric = "cosine"
    is_flat: bool = False
    """As JSON the columns stand beside what the search says of a hit; else apart from it, whatever their names."""

    @property
    def metadata(self) -> Iterator[tuple[int, str]]:
        """Position and name of each metadata column."""
        return ((at, self.names[at]) for at in range(1 + self.texts, len(self.names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """A declared collection. Raises CollectionInvalid where its parts do not go together."""

    name: str
    table: str
    schema: str | None = None
    """None: wherever the search_path leads."""

    key: str = "id"
    """The column that identifies a row: a primary key or unique, of any type."""

    text: tuple[str, ...] = ()
    """The columns that are embedded and searched by words. Of two or more, the first is a title: its words weigh more. None:
    the collection is searched by vectors alone."""

    vector: str = "embedding"
    metadata: tuple[str, ...] = ()
    """Further columns that a hit carries, and that filters name; a JSON column is filtered by its members."""

    date: str | None = None
    """The metadata column by which browsing puts the newest first; None orders by the key."""

    expires: str | None = None
    """The metadata column of type date or timestamp from whose moment on a row is not found any more; None: rows do not expire
    (of articles, records in everindex_meta say so)."""

    passages: str | None = None
    """The column, one of `text` or `metadata`, whose texts are cut into passages that are searched too; None: none is. Of
    articles it is their body."""

    metric: Metric = "cosine"
    index: IndexSpec | None = None
    """The vector index, where it is declared elsewhere; None derives it from the table, see `vector_index`."""

    words_index: str | None = None
    """The name of the index of the words; None derives it from the table."""

    rest: str | None = None
    """The JSON column that takes what a stored row has beyond the declared columns; None refuses such a row."""

    is_flat: bool = False
    """See `Columns`: of the articles alone, whose names are known."""

    is_owned: bool = False
    """The table was created by everindex, which may alter and drop it; any other table is left as it is."""

    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        names = (self.key, *self.text, *self.metadata)
        object.__setattr__(self, "columns", Columns(names, len(self.text), self.metric, self.is_flat))

    @property
    def has_title(self) -> bool:
        """Whether the first text column is a title."""
        return len(self.text) > 1

    @property
    def operator(self) -> str:
        """pgvector's distance operator."""
        return OPERATORS[self.metric][0]

    @property
    def words_index_name(self) -> str:
        return self.words_index or index_name(self.table, "words_idx")

    def vector_index(self, *, schema: str, vector_type: str, dimensions: int | None) -> IndexSpec:
        """The declared index: over the column itself where pgvector can index its width, else over halfvec, else over its sign
        bits, whose candidates are ranked by the vectors."""
        if self.index is not None:
            return self.index
        family = OPERATORS[self.metric][1]
        width = dimensions or 1
        kind = vector_type if width <= MAX_DIMENSIONS[vector_type] else "halfvec"
        opclass = "bit_hamming_ops" if width > MAX_DIMENSIONS[kind] else f"{kind}_{family}_ops"
        return IndexSpec(
            name=index_name(self.table, f"{self.vector}_hnsw_idx"),
            table=self.table,
            schema=schema,
            column=self.vector,
            opclass=opclass,
            is_located=True,
        )

    def _check(self) -> None:
        if not isinstance(self.key, str):
            raise invalid(
                self.name, "its key is not the name of one column", "hits, records and pages identify a row by one value.",
                SINGLE_KEY,
            )  # fmt: skip
        named = (self.key, *self.text, self.vector, *self.metadata)
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise invalid(self.name, f"column {twice[0]} is named twice", "each column is one thing to a search.")
        for what, name in (("name", self.name), ("table", self.table), *((("column"), name) for name in named)):
            if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES or "\0" in name:
                raise invalid(
                    self.name, f"its {what} {name[:80]!r} cannot be a PostgreSQL name",
                    f"names have 1 to {MAX_NAME_BYTES} bytes and no NUL.",
                )  # fmt: skip
            if "%" in name:
                raise invalid(
                    self.name, f"its {what} {name[:80]!r} has a percent sign",
                    "in a statement with parameters a driver reads it as a placeholder.", "choose another name.",
                )  # fmt: skip
        if self.metric not in METRICS:
            raise invalid(self.name, f"metric {self.metric!r} is not supported", f"metrics are {', '.join(METRICS)}.")
        if self.date is not None and self.date not in self.metadata:
            raise invalid(self.name, f"date column {self.date} is not one of its metadata", "a hit carries its date.")
        if self.passages is not None and self.passages not in (*self.text, *self.metadata):
            raise invalid(
                self.name, f"column {self.passages}, to be cut into passages, is not one of its columns",
                "a hit shows the row that a passage belongs to.", "add it to text or metadata.",
            )  # fmt: skip
        if self.expires is not None and self.expires not in self.metadata:
            raise invalid(
                self.name, f"expiry column {self.expires} is not one of its metadata", "filters compare it.",
                "add it to metadata.",
            )  # fmt: skip


def index_name(table: str, suffix: str) -> str:
    """`table_suffix`; where that and the names of generations would not fit into NAMEDATALEN, cut, with a hash of the whole: two
    long names may begin alike."""
    whole, most = f"{table}_{suffix}", MAX_NAME_BYTES - len("__next")
    if len(whole.encode()) <= most:
        return whole
    tail = "_" + hashlib.sha256(whole.encode()).hexdigest()[:8]
    return whole.encode()[: most - len(tail)].decode("utf-8", "ignore") + tail


#: What to do for a table whose key has several columns, or none that is unique.
SINGLE_KEY = (
    "name a column that is unique by itself, or add one:  ALTER TABLE … ADD COLUMN row_id bigint GENERATED ALWAYS AS IDENTITY "
    "UNIQUE."
)


def invalid(name: str, what: str, why: str, next_step: str = "correct the declaration.") -> CollectionInvalid:
    """The error of a declaration, in its three lines."""
    return CollectionInvalid(f"collection {name[:80]!r} cannot be declared: {what}.", why=why, next_step=next_step)
