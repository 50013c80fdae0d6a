"""Checks of texts before embedding, and of vectors before storing, so that every kind of index can compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Below this length the components of a wide vector approach the smallest step of a halfvec (6e-8, IEEE 754 half
#: precision), so a halfvec index would compare rounding errors. Embedding models produce lengths around 1.
MIN_NORM = 1e-3
#: The largest number of a halfvec; a single greater component makes the build of a halfvec index fail. Source:
#: pgvector, halfvec.h, HALF_MAX.
MAX_COMPONENT = 65504.0


def check_vectors(array: npt.NDArray[Any], width: int) -> dict[int, str]:
    """Row → why it cannot be stored in a column of `width` dimensions; empty when all `(n, width)` rows can.

    Refuses rows that are not numbers, of another width, not finite, zero (their cosine distance is undefined, and
    pgvector leaves them out of the index: README, "Indexing"), too short or too long. A shape other than (n, width)
    refuses every row.
    """
    if array.ndim == 0:
        raise ValueError("check_vectors takes rows of vectors, not a single number")
    if array.ndim != 2:
        return dict.fromkeys(range(len(array)), f"the rows are not vectors but have shape {array.shape[1:]}")
    if array.shape[1] != width:
        return dict.fromkeys(range(len(array)), f"the vector has {array.shape[1]} dimensions, the column has {width}")
    if array.dtype.kind not in "fiu":
        return dict.fromkeys(range(len(array)), f"the vector does not contain numbers but {array.dtype.name}")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = array.astype(np.float32, copy=False)
        # Avoids a copy of all rows, which abs() would make; NaN is preserved.
        largest = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    # Written so that NaN is refused, since every comparison with it is false.
    good = (largest <= MAX_COMPONENT) & (norms >= MIN_NORM)
    return {int(row): _reason(float(largest[row]), float(norms[row])) for row in np.flatnonzero(~good)}


def text_problem(text: object) -> str | None:
    """Why a text cannot be embedded by any model; None if it can."""
    if not isinstance(text, str):
        return f"it is not a text but {type(text).__name__}"
    if not text.strip():
        return "the text is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text is not valid Unicode: it contains half of a surrogate pair"
    return None


def _reason(largest: float, norm: float) -> str:
    if not np.isfinite(largest):
        return "the vector has a component that is not a finite number"
    if largest == 0:
        return "the vector is zero"
    if largest > MAX_COMPONENT:
        return f"the vector has a component of {largest:.3g}, beyond the {MAX_COMPONENT:.0f} that an index can hold"
    return f"the vector's length is {norm:.1e}, too short to be compared (at least {MIN_NORM})"
