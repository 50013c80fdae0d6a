"""The declaration of a vector index, checked against pgvector's limits before any database is touched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from everindex.errors import SpecIllegal

#: pgvector, src/hnsw.h: HNSW_MIN_M … HNSW_MAX_EF_CONSTRUCTION; README "Index Options" for the defaults.
M_RANGE = range(2, 101)
EF_CONSTRUCTION_RANGE = range(4, 1001)
#: hnsw.h, HNSW_DEFAULT_EF_SEARCH, HNSW_MIN_EF_SEARCH and HNSW_MAX_EF_SEARCH; a scan that does not iterate finds no more
#: candidates than that.
DEFAULT_EF_SEARCH = 40
MAX_EF_SEARCH = 1000
EF_SEARCH_RANGE = range(1, MAX_EF_SEARCH + 1)
#: The neighbours of a search that names no number: ef_search and candidates of a declaration are for so many, and so is
#: every recall that is measured, proven or recorded.
DEFAULT_K = 10
CANDIDATES_RANGE = range(DEFAULT_K, MAX_EF_SEARCH + 1)
DEFAULT_M = 16
DEFAULT_EF_CONSTRUCTION = 64
#: pgvector, src/hnsw.h: HNSW_MAX_DIM 2000 for vector, twice that for halfvec, 32 times for bit.
MAX_DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 64000}
#: PostgreSQL, NAMEDATALEN - 1: longer names are cut silently, and then the declared name is not the made one.
MAX_NAME_BYTES = 63
#: What a generation beside the declared index is called: the declared name with one of these.
GENERATION_SUFFIXES = ("__next", "__prev")
WEEK_SECONDS = 7 * 24 * 3600.0

#: Opclass → (type of what is indexed, distance operator). pgvector README, "HNSW" and "Querying". halfvec and bit came
#: with pgvector 0.7.0, and so did l1 for vector.
OPCLASSES = {
    "vector_cosine_ops": ("vector", "<=>"),
    "vector_l2_ops": ("vector", "<->"),
    "vector_ip_ops": ("vector", "<#>"),
    "vector_l1_ops": ("vector", "<+>"),
    "halfvec_cosine_ops": ("halfvec", "<=>"),
    "halfvec_l2_ops": ("halfvec", "<->"),
    "halfvec_ip_ops": ("halfvec", "<#>"),
    "halfvec_l1_ops": ("halfvec", "<+>"),
    "bit_hamming_ops": ("bit", "<~>"),
    "bit_jaccard_ops": ("bit", "<%>"),
}
#: Candidates that are re-ranked for each neighbour asked for: bit codes lose much of a vector, halfvec hardly any.
CANDIDATES_PER_NEIGHBOUR = {"vector": 1, "halfvec": 2, "bit": 20}
#: The opclasses of pgvector 0.5 and 0.6.
OLD_OPCLASSES = ("vector_cosine_ops", "vector_l2_ops", "vector_ip_ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPolicy:
    """How an index may be built and kept. Times in seconds; None means no limit."""

    give_up_after_seconds: float | None = None
    """A build that has not ended by then is cancelled and removed."""

    wait_for_transactions_seconds: float | None = None
    """How long a build may wait for one other transaction; longer, and it is cancelled and removed, with who it was."""

    keep_previous_seconds: float = WEEK_SECONDS
    """For how long the previous generation is kept for a rollback; 0 drops it once its successor is proven."""

    memory_share: float = 0.5
    """The share of what the server has for caching (effective_cache_size) that one build may take."""

    @property
    def has_limits(self) -> bool:
        """Whether there is a time after which something is given up."""
        return self.give_up_after_seconds is not None or self.wait_for_transactions_seconds is not None


class NamedIndex(Protocol):
    """Where an index lies: what a lock, a line of the journal or a DROP INDEX has to know of it."""

    @property
    def schema(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def name(self) -> str: ...


class OnlineIndex(NamedIndex, Protocol):
    """An index that everindex builds online, a vector index or that of the words, and how long that may take."""

    @property
    def build(self) -> BuildPolicy: ...
    @property
    def qualified_name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A declared HNSW index. Raises SpecIllegal, with the limit and its source, when no server could build it.

    It indexes `column` itself where the opclass is of the column's type; the column cast to halfvec, or binary-quantized,
    where the opclass is one of halfvec or bit and the column a vector; or `expression`, any SQL over the table's columns.
    """

    name: str
    table: str
    column: str | None = None
    """The vector column. With an expression: whose vectors recall is measured on, if given."""

    schema: str = "public"
    opclass: str = "vector_cosine_ops"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION
    expression: str | None = None
    """SQL as in CREATE INDEX, such as `subvector(embedding, 1, 256)::vector(256)`."""

    predicate: str | None = None
    """SQL of a partial index, such as `topic = 'news'`."""

    dimensions: int | None = None
    """The declared width; None takes that of the column. Needed by offline scripts that cast."""

    recall_floor: float = 0.95
    """The recall@10 that `verify` demands, 0 to 1."""

    ef_search: int | None = None
    """hnsw.ef_search of its searches for 10 neighbours, as proofs ask them; None follows k. No part of the definition."""

    candidates: int | None = None
    """Of halfvec and bit: how many candidates a search for 10 neighbours re-ranks; None follows k."""

    build: BuildPolicy = field(default=BuildPolicy())

    def __post_init__(self) -> None:
        for what, name in (
            ("index", self.name),
            ("table", self.table),
            ("column", self.column),
            ("schema", self.schema),
        ):
            if name is None:
                continue
            size = len(name.encode())
            if not 1 <= size <= MAX_NAME_BYTES or "\0" in name:
                raise illegal(
                    self,
                    f"the {what} name has {size} bytes",
                    f"PostgreSQL names have 1 to {MAX_NAME_BYTES} bytes (NAMEDATALEN) and no NUL.",
                    f"choose another {what} name.",
                )
        self._check_key()
        if self.m not in M_RANGE:
            raise illegal(
                self, f"m = {self.m}", "pgvector takes 2 to 100 (hnsw.h).", "16 is the default and a good start."
            )
        if self.ef_construction not in EF_CONSTRUCTION_RANGE or self.ef_construction < 2 * self.m:
            raise illegal(
                self,
                f"ef_construction = {self.ef_construction} with m = {self.m}",
                "pgvector takes 4 to 1000 and at least 2 × m (hnswbuild.c).",
                "64 is the default for m = 16.",
            )
        if not 0 < self.recall_floor <= 1:
            raise illegal(
                self, f"recall_floor = {self.recall_floor}", "recall is a share, above 0 to 1.", "0.95 is usual."
            )
        for what, given, limits in (
            ("ef_search", self.ef_search, EF_SEARCH_RANGE),
            ("candidates", self.candidates, CANDIDATES_RANGE),
        ):
            if given is not None and given not in limits:
                raise illegal(
                    self,
                    f"{what} = {given}",
                    f"it is a number from {limits.start} to {limits.stop - 1} (hnsw.h: HNSW_MAX_EF_SEARCH).",
                    f"leave {what} out: it then follows k.",
                )
        if not 0 < self.build.memory_share <= 1:
            raise illegal(
                self,
                f"memory_share = {self.build.memory_share}",
                "it is a share of the server's cache, above 0 to 1.",
                "0.5 is the default.",
            )
        if self.dimensions is not None:
            check_dimensions(self, self.dimensions)

    def _check_key(self) -> None:
        if self.column is None and self.expression is None:
            raise illegal(
                self, "it has neither a column nor an expression", "something must be indexed.", "name the column."
            )
        for what, text in (("expression", self.expression), ("predicate", self.predicate)):
            if text is not None and (not text.strip() or "\0" in text):
                raise illegal(self, f"its {what} is empty", f"an empty {what} means nothing.", f"leave the {what} out.")
        if self.opclass not in OPCLASSES:
            raise illegal(
                self,
                f"opclass {self.opclass!r} is not one of {', '.join(OPCLASSES)}",
                "pgvector has no HNSW operator class of that name for vector, halfvec and bit.",
                "correct the opclass.",
            )

    @property
    def key_type(self) -> str:
        """The type of what is indexed: vector, halfvec or bit."""
        return OPCLASSES[self.opclass][0]

    @property
    def operator(self) -> str:
        """The distance operator that this index serves, such as `<=>`."""
        return OPCLASSES[self.opclass][1]

    @property
    def definition_digest(self) -> str:
        """12 hex digits that stand for what is indexed and how; neither name nor policy is in it."""
        parts = (self.schema, self.table, self.column, self.expression, self.predicate, self.opclass)
        text = repr((*parts, self.m, self.ef_construction))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def predicate_text(self) -> str | None:
        """The predicate as it can stand in the middle of a statement: a comment (`--`) ends with its own line."""
        return ends_its_line(self.predicate)

    @property
    def expression_text(self) -> str | None:
        """The same of the expression."""
        return ends_its_line(self.expression)

    @property
    def qualified_name(self) -> str:
        """`schema.name`, for people."""
        return f"{self.schema}.{self.name}"


def ends_its_line(text: str | None) -> str | None:
    return f"{text}\n" if text and "--" in text else text


def check_dimensions(spec: IndexSpec, dimensions: int | None) -> None:
    """Raises SpecIllegal when an HNSW index of that opclass cannot hold such a width (None: a column without one)."""
    limit = MAX_DIMENSIONS[spec.key_type]
    if dimensions is None:
        raise illegal(
            spec,
            f"column {spec.column} has no fixed width",
            "pgvector indexes only columns with a width, such as vector(1536).",
            f"ALTER TABLE {spec.table} ALTER COLUMN {spec.column} TYPE vector(N)  with the width of your model.",
        )
    if dimensions > limit:
        raise illegal(
            spec,
            f"{spec.column or 'the expression'} has {dimensions} dimensions",
            f"an HNSW index holds at most {limit} dimensions of type {spec.key_type} (pgvector, hnsw.h).",
            _narrower(spec.key_type, dimensions),
        )


def _narrower(key_type: str, dimensions: int) -> str:
    ways = [f"opclass {kind}_…" for kind, limit in MAX_DIMENSIONS.items() if kind != key_type and dimensions <= limit]
    return (
        f"declare it with {' or '.join(ways)}, or use a model with fewer dimensions."
        if ways
        else ("use a model, or its `dimensions` option, with fewer dimensions.")
    )


def illegal(spec: IndexSpec, what: str, why: str, next_step: str) -> SpecIllegal:
    """The error of a declaration, in its three lines."""
    return SpecIllegal(f"index {spec.name!r} cannot be declared: {what}.", why=why, next_step=next_step)
