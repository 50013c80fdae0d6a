"""What index do we want? The declaration, checked against pgvector's limits before any database is touched."""

from __future__ import annotations

from dataclasses import dataclass

from everindex.errors import SpecIllegal

#: pgvector, src/hnsw.h: HNSW_MIN_M … HNSW_MAX_EF_CONSTRUCTION; README "Index Options" for the defaults.
M_RANGE = range(2, 101)
EF_CONSTRUCTION_RANGE = range(4, 1001)
DEFAULT_M = 16
DEFAULT_EF_CONSTRUCTION = 64
#: pgvector, src/hnsw.h: HNSW_MAX_DIM 2000 for vector, twice that for halfvec, 32 times for bit.
MAX_DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 64000}
#: PostgreSQL, NAMEDATALEN - 1: longer names are cut silently, and then the declared name is not the made one.
MAX_NAME_BYTES = 63

#: Opclass → (type, distance operator). pgvector README, "HNSW" and "Querying".
OPCLASSES = {
    "vector_cosine_ops": ("vector", "<=>"),
    "vector_l2_ops": ("vector", "<->"),
    "vector_ip_ops": ("vector", "<#>"),
    "vector_l1_ops": ("vector", "<+>"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """A declared HNSW index on one column. Raises SpecIllegal, with the limit and its source, when no server could build it."""

    name: str
    table: str
    column: str
    schema: str = "public"
    opclass: str = "vector_cosine_ops"
    m: int = DEFAULT_M
    ef_construction: int = DEFAULT_EF_CONSTRUCTION
    recall_floor: float = 0.95
    """The recall@10 that `verify` demands, 0 to 1."""

    def __post_init__(self) -> None:
        for what, name in (
            ("index", self.name),
            ("table", self.table),
            ("column", self.column),
            ("schema", self.schema),
        ):
            size = len(name.encode())
            if not 1 <= size <= MAX_NAME_BYTES or "\0" in name:
                raise _illegal(
                    self,
                    f"the {what} name has {size} bytes",
                    f"PostgreSQL names have 1 to {MAX_NAME_BYTES} bytes (NAMEDATALEN) and no NUL.",
                    f"choose another {what} name.",
                )
        if self.opclass not in OPCLASSES:
            raise _illegal(
                self,
                f"opclass {self.opclass!r} is not one of {', '.join(OPCLASSES)}",
                "pgvector has no HNSW operator class of that name for vector columns.",
                "correct the opclass.",
            )
        if self.m not in M_RANGE:
            raise _illegal(
                self, f"m = {self.m}", "pgvector takes 2 to 100 (hnsw.h).", "16 is the default and a good start."
            )
        if self.ef_construction not in EF_CONSTRUCTION_RANGE or self.ef_construction < 2 * self.m:
            raise _illegal(
                self,
                f"ef_construction = {self.ef_construction} with m = {self.m}",
                "pgvector takes 4 to 1000 and at least 2 × m (hnswbuild.c).",
                "64 is the default for m = 16.",
            )
        if not 0 < self.recall_floor <= 1:
            raise _illegal(
                self, f"recall_floor = {self.recall_floor}", "recall is a share, above 0 to 1.", "0.95 is usual."
            )

    @property
    def column_type(self) -> str:
        return OPCLASSES[self.opclass][0]

    @property
    def operator(self) -> str:
        """The distance operator that this index serves, such as `<=>`."""
        return OPCLASSES[self.opclass][1]

    @property
    def qualified_name(self) -> str:
        """`schema.name`, for people."""
        return f"{self.schema}.{self.name}"


def check_dimensions(spec: IndexSpec, dimensions: int | None) -> None:
    """Raises SpecIllegal when an HNSW index cannot hold a column of that width (None: a column without one)."""
    limit = MAX_DIMENSIONS[spec.column_type]
    if dimensions is None:
        raise _illegal(
            spec,
            f"column {spec.column} has no fixed width",
            "pgvector indexes only columns with a width, such as vector(1536).",
            f"ALTER TABLE {spec.table} ALTER COLUMN {spec.column} TYPE vector(N)  with the width of your model.",
        )
    if dimensions > limit:
        raise _illegal(
            spec,
            f"column {spec.column} has {dimensions} dimensions",
            f"an HNSW index holds at most {limit} dimensions of type {spec.column_type} (pgvector, hnsw.h).",
            "use a model, or its `dimensions` option, with fewer dimensions.",
        )


def _illegal(spec: IndexSpec, what: str, why: str, next_step: str) -> SpecIllegal:
    return SpecIllegal(f"index {spec.name!r} cannot be declared: {what}.", why=why, next_step=next_step)
