"""The parameters that the addresses of several routes have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from everindex.articles.model import MAX_K
from everindex.articles.search.filters.conditions import MAX_JSON_CHARS
from everindex.web.api.schemas import (
    AFTER,
    DISTANCE,
    DIVERSITY,
    FILTER,
    GROUP_DUPLICATES,
    MIN_SIMILARITY,
    SHARE,
    SIMILARITY,
    K,
)

Count = Annotated[int, Query(description=f"Number of hits to return, 1 to {MAX_K}.", json_schema_extra=K)]
After = Annotated[str | None, Query(description=AFTER)]
MinSimilarity = Annotated[float | None, Query(description=MIN_SIMILARITY, json_schema_extra=SIMILARITY)]
Diversity = Annotated[float | None, Query(description=DIVERSITY, json_schema_extra=SHARE)]
Filter = Annotated[str | None, Query(description=f"{FILTER} As JSON.", json_schema_extra={"maxLength": MAX_JSON_CHARS})]
GroupDuplicates = Annotated[bool, Query(description=GROUP_DUPLICATES)]
WithoutNearDuplicates = Annotated[bool, Query(description="Omit near-duplicates of this one and of each other.")]
NearDuplicateDistance = Annotated[
    float, Query(description="Distance below which two hits are near-duplicates.", json_schema_extra=DISTANCE)
]
