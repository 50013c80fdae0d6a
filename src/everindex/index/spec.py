"""The declaration of a vector index, checked against pgvector's limits before any database is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from everindex.errors import SpecIllegal

#: pgvector, src/hnsw.h: HNSW_MIN_M … HNSW_MAX_EF_CONSTRUCTION; README "Index Options" for the defaults.
M_RANGE = range(2, 101)
EF_CONSTRUCTION_RANGE = range(4, 1001)
#: hnsw.h, HNSW_DEFAULT_EF_SEARCH, HNSW_MIN_EF_SEARCH and HNSW_MAX_EF_SEARCH; a scan that does not iterate finds at most
#: that many candidates.
DEFAULT_EF_SEARCH = 40
MAX_EF_SEARCH = 1000
EF_SEARCH_RANGE = range(1, MAX_EF_SEARCH + 1)
#: The default number of neighbours of a search. The ef_search and candidates of a declaration apply to this number, and so
#: does every recall that is measured, proven or recorded.
DEFAULT_K = 10
CANDIDATES_RANGE = range(DEFAULT_K, MAX_EF_SEARCH + 1)
DEFAULT_M = 16
DEFAULT_EF_CONSTRUCTION = 64
#: pgvector, src/hnsw.h: HNSW_MAX_DIM 2000 for vector, twice that for halfvec, 32 times for bit.
MAX_DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 64000}
#: PostgreSQL, NAMEDATALEN - 1: longer names are silently truncated, so that the index would not have the declared name.
MAX_NAME_BYTES = 63
#: Suffixes of the names of generations next to the declared index.
GENERATION_SUFFIXES = ("__next", "__prev")
WEEK_SECONDS = 7 * 24 * 3600.0

#: Opclass → (type of the index key, distance operator). pgvector README, "HNSW" and "Querying". halfvec, bit and l1 for vector
#: need pgvector 0.7.0.
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
#: Candidates that are re-ranked for each requested neighbour: bit codes lose much of a vector, halfvec hardly any.
CANDIDATES_PER_NEIGHBOUR = {"vector": 1, "halfvec": 2, "bit": 20}
#: The opclasses of pgvector 0.5 and 0.6.
OLD_OPCLASSES = ("vector_cosine_ops", "vector_l2_ops", "vector_ip_ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPolicy:
    """Limits for building and keeping an index. Times are in seconds; None means no limit."""

    give_up_after_seconds: float | None = None
    """A build that has not finished by then is cancelled and removed."""

    wait_for_transactions_seconds: float | None = None
    """How long a build may wait for one other transaction; after that it is cancelled and removed, and the blocker is named."""

    keep_previous_seconds: float = WEEK_SECONDS
    """How long the previous generation is kept for a rollback; 0 drops it once its successor is proven."""

    memory_share: float = 0.5
    """The share of the server's memory for caching (effective_cache_size) that one build may use."""

    @property
    def has_limits(self) -> bool:
        """Whether there is a time after which something is given up."""
        return self.give_up_after_seconds is not None or self.wait_for_transactions_seconds is not None


class NamedIndex(Protocol):
    """The location of an index: what a lock, a journal entry or a DROP INDEX must know about it."""

    @property
    def schema(self) -> str: ...
    @property
    def table(self) -> str: ...
    @property
    def name(self) -> str: ...


class OnlineIndex(NamedIndex, Protocol):
    """An index that everindex builds online, a vector index or the keyword index, and the limits of its build."""

    @property
    def build(self) -> BuildPolicy: ...
    @property
    def qualified_name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A declared HNSW index. Raises SpecIllegal, with the limit and its source, when no server could build it.

    It indexes `column` itself if the opclass has the column's type; the column cast to halfvec, or binary-quantized, if the
    opclass is one of halfvec or bit and the column is a vector; or `expression`, any SQL on the table's columns.
    """

    name: str
    table: str
    column: str | None = None
    """The vector column. With an expression: the column whose vectors recall is measured on, if given."""

    schema: str = "public"
    opclass: str = "vector_cosine_ops"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION
    expression: str | None = None
    """SQL as in CREATE INDEX, such as `subvector(embedding, 1, 256)::vector(256)`."""

    predicate: str | None = None
    """SQL of a partial index, such as `topic = 'news'`."""

    dimensions: int | None = None
    """The declared dimensions; None means those of the column. Needed by offline scripts that cast."""

    recall_floor: float = 0.95
    """The recall@10 that `verify` requires, 0 to 1."""

    ef_search: int | None = None
    """hnsw.ef_search of searches for 10 neighbours, as proofs run them; None follows k. Not part of the definition."""

    candidates: int | None = None
    """For halfvec and bit: how many candidates a search for 10 neighbours re-ranks; None follows k."""

    build: BuildPolicy = field(default=BuildPolicy())
    is_located: bool = field(default=False, compare=False)
    """`schema` is where the table lies, whatever the search_path; not part of a declaration in JSON."""

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
                self, f"m = {self.m}", "pgvector accepts 2 to 100 (hnsw.h).", "16 is the default and a good start."
            )
        if self.ef_construction not in EF_CONSTRUCTION_RANGE or self.ef_construction < 2 * self.m:
            raise illegal(
                self,
                f"ef_construction = {self.ef_construction} with m = {self.m}",
                "pgvector accepts 4 to 1000 and at least 2 × m (hnswbuild.c).",
                "64 is the default for m = 16.",
            )
        if not 0 < self.recall_floor <= 1:
            raise illegal(
                self,
                f"recall_floor = {self.recall_floor}",
                "recall is a share, above 0 and at most 1.",
                "0.95 is usual.",
            )
        for what, given, limits in (
            ("ef_search", self.ef_search, EF_SEARCH_RANGE),
            ("candidates", self.candidates, CANDIDATES_RANGE),
        ):
            if given is not None and given not in limits:
                raise illegal(
                    self,
                    f"{what} = {given}",
                    f"it must be a number from {limits.start} to {limits.stop - 1} (hnsw.h: HNSW_MAX_EF_SEARCH).",
                    f"omit {what}: it then follows k.",
                )
        if not 0 < self.build.memory_share <= 1:
            raise illegal(
                self,
                f"memory_share = {self.build.memory_share}",
                "it is a share of the server's cache, above 0 and at most 1.",
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
                raise illegal(self, f"its {what} is empty", f"an empty {what} has no meaning.", f"omit the {what}.")
        if self.opclass not in OPCLASSES:
            raise illegal(
                self,
                f"opclass {self.opclass!r} is not one of {', '.join(OPCLASSES)}",
                "pgvector has no HNSW operator class with that name for vector, halfvec or bit.",
                "correct the opclass.",
            )

    @property
    def key_type(self) -> str:
        """The type of the index key: vector, halfvec or bit."""
        return OPCLASSES[self.opclass][0]

    @property
    def operator(self) -> str:
        """The distance operator that this index serves, such as `<=>`."""
        return OPCLASSES[self.opclass][1]

    @property
    def definition_digest(self) -> str:
        """12 hex digits that identify what is indexed and how; independent of name and policy."""
        parts = (self.schema, self.table, self.column, self.expression, self.predicate, self.opclass)
        text = repr((*parts, self.m, self.ef_construction))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def predicate_text(self) -> str | None:
        """The predicate in a form that can be embedded in a statement: a comment (`--`) ends with its own line."""
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
    """Raises SpecIllegal when an HNSW index with that opclass cannot hold these dimensions (None: a column without them)."""
    limit = MAX_DIMENSIONS[spec.key_type]
    if dimensions is None:
        raise illegal(
            spec,
            f"column {spec.column} has no fixed dimensions",
            "pgvector indexes only columns with dimensions, such as vector(1536).",
            f"ALTER TABLE {spec.table} ALTER COLUMN {spec.column} TYPE vector(N)  with the dimensions of your model.",
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
        else ("use a model with fewer dimensions, or its `dimensions` option.")
    )


def illegal(spec: IndexSpec, what: str, why: str, next_step: str) -> SpecIllegal:
    """The error for a declaration, with its three lines."""
    return SpecIllegal(f"index {spec.name!r} cannot be declared: {what}.", why=why, next_step=next_step)
