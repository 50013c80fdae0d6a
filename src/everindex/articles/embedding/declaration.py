"""The declaration of the model that made the vectors without a record: compared with a sample of them, then recorded.

`compare` embeds a sample of stored texts and compares the results with the stored vectors; it reads only. It guarantees
at least MIN_COMPARED different texts, of which at least AGREEING_SHARE have the model's vector (cosine ≥ AGREEMENT). It
guarantees nothing about rows outside the sample: `everindex embed --check` compares them all (docs/decisions/0016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg import sql

from everindex.articles.embedding.endpoint import RetryPolicy
from everindex.articles.embedding.provider import Embedder, Vectors
from everindex.articles.embedding.text_forms import OWN_FORM, TEXT_FORMS, text_of
from everindex.articles.table import CollectionTable
from everindex.articles.table_models import is_zero, without_record
from everindex.errors import DeclarationRefused, EmbeddingFailed
from everindex.pg.connections import Connection
from everindex.pg.sqlstate import translate_errors
from everindex.units import count_text

#: Somebody waits for the result: an unreachable endpoint is reported after seconds, not minutes.
DECLARING = RetryPolicy(attempts=2, total_seconds=20.0)
#: Default sample size of a declaration, the doctor and the keeper, in stored vectors.
SAMPLE_ROWS = 200
#: Minimum number of different texts for a meaningful comparison.
MIN_COMPARED = 3
#: From this cosine on, two vectors count as the same: a remote model repeats itself to 0.9999, while another model,
#: text or padding stays below 0.9.
AGREEMENT = 0.99
#: The share of the sample that must agree: a few texts may have been edited after embedding.
AGREEING_SHARE = 0.95
#: Number of texts embedded in every form, to find the form in which to compare the sample.
TRIED_TEXTS = 16
#: Two sets of vectors whose inner products all agree within this are the same set, rotated or padded.
SAME_SHAPE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How close the stored vectors of a sample are to the model's vectors of their texts, in one form."""

    form: str
    compared: int
    agreed: int
    median_cosine: float
    worst_cosine: float

    @property
    def sentence(self) -> str:
        return (
            f"{self.form}: {self.agreed} of {self.compared} agree, cosine {self.median_cosine:.3f} in the median, "
            f"{self.worst_cosine:.3f} at worst"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "text": self.form,
            "compared": self.compared,
            "agreed": self.agreed,
            "median_cosine": round(self.median_cosine, 4),
            "worst_cosine": round(self.worst_cosine, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A declaration that was recorded."""

    model: str
    agreement: Agreement

    def as_dict(self) -> dict[str, Any]:
        return {"declared": self.model, **self.agreement.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """Rows whose vector has no record: their texts and their vectors, (n, dim) float32, none of them zero."""

    texts: Sequence[tuple[str | None, str | None]]
    vectors: Vectors


def read_unrecorded(connection: Connection, table: CollectionTable, *, rows: int) -> Sampled:
    """A random sample of up to `rows` rows whose vector has no record and is not zero. Reads the keys of the whole
    table, and the vectors of several times `rows` rows."""
    draw = sql.SQL("SELECT a.{} FROM {} a WHERE a.{} IS NOT NULL AND {} ORDER BY random() LIMIT {}").format(
        table.key, table.identifier, table.vector, without_record(table), sql.Literal(4 * rows)
    )
    read = sql.SQL(
        "SELECT {texts}, {vector} FROM {table} a WHERE a.{key} = ANY(%s) AND NOT {is_zero} ORDER BY random() LIMIT "
        "{rows}"
    ).format(
        texts=table.title_and_body,
        vector=table.vector_read,
        table=table.identifier,
        key=table.key,
        is_zero=is_zero(table),
        rows=sql.Literal(rows),
    )
    with translate_errors("sampling vectors"):
        drawn = [row[0] for row in connection.execute(draw)]
        found = connection.execute(read, (drawn,), binary=True).fetchall()
    return Sampled(
        texts=[(row[0], row[1]) for row in found],
        vectors=np.array([row[2].to_numpy() for row in found], dtype=np.float32).reshape(
            len(found), table.dimensions or 0
        ),
    )


def compare(sampled: Sampled, embedder: Embedder) -> Agreement:
    """How well the sample agrees with `embedder`, in the best form. Raises DeclarationRefused, with the figures of
    every form, where it does not agree or too little can be compared; EmbeddingFailed where the model returns no vector
    at all."""
    few = [_agreement(sampled, embedder, form, limit=TRIED_TEXTS) for form in TEXT_FORMS]
    tried = sorted(
        (one for one in few if one is not None),
        # A form that gives the same text for all rows is no evidence, however close its vectors are.
        key=lambda one: (one.compared < MIN_COMPARED, -one.agreed / one.compared, -one.median_cosine),
    )
    if not tried:
        raise _too_few(0, embedder)
    best = _agreement(sampled, embedder, tried[0].form, limit=len(sampled.texts))
    if best is None or best.compared < MIN_COMPARED:
        raise _too_few(0 if best is None else best.compared, embedder)
    if best.agreed >= AGREEING_SHARE * best.compared:
        return best
    raise _refused(best, tried, embedder, is_turned=_is_turned(sampled, embedder, best.form))


def _agreement(sampled: Sampled, embedder: Embedder, form: str, *, limit: int) -> Agreement | None:
    """The agreement of up to `limit` different texts in this form; None where there is no text."""
    stored, made = _pairs(sampled, embedder, form, limit=limit)
    if not len(stored):
        return None
    cosines = np.einsum("ij,ij->i", stored, made)
    return Agreement(
        form=form,
        compared=len(cosines),
        agreed=int((cosines >= AGREEMENT).sum()),
        median_cosine=float(np.median(cosines)),
        worst_cosine=float(cosines.min()),
    )


def _pairs(sampled: Sampled, embedder: Embedder, form: str, *, limit: int) -> tuple[Vectors, Vectors]:
    """The stored vectors and the model's, scaled to length 1, one row per different text."""
    numbers: dict[str, int] = {}
    for number, (title, summary) in enumerate(sampled.texts):
        text = text_of(form, title, summary)
        if text.strip():
            numbers.setdefault(text, number)
    texts = list(numbers)[:limit]
    if not texts:
        return np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.float32)
    batch = embedder.embed(texts)
    usable = [row for row in range(len(texts)) if row not in batch.failures]
    if not usable and embedder.is_remote:
        raise EmbeddingFailed(
            f"{embedder.model} returned no vector to compare with.",
            why=f"{next(iter(batch.failures.values()))}.",
            next_step="check OPENAI_API_KEY, OPENAI_BASE_URL and the model's name, and declare it again.",
        )
    stored = sampled.vectors[[numbers[texts[row]] for row in usable]]
    return _unit(stored), _unit(batch.vectors[usable])


def _unit(vectors: Vectors) -> Vectors:
    wide = vectors.astype(np.float64)
    unit: Vectors = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _is_turned(sampled: Sampled, embedder: Embedder, form: str) -> bool:
    """Whether the stored vectors have the same inner products as the model's, so that only the map to the column's
    width differs."""
    for one in dict.fromkeys((form, OWN_FORM, "title alone", "summary alone")):
        stored, made = _pairs(sampled, embedder, one, limit=TRIED_TEXTS)
        if len(stored) > MIN_COMPARED and float(np.abs(stored @ stored.T - made @ made.T).max()) < SAME_SHAPE:
            return True
    return False


def nothing_to_declare(embedder: Embedder) -> DeclarationRefused:
    """The error where no vector but zero ones lacks a record."""
    return DeclarationRefused(
        f"{embedder.model} is not declared: there is nothing to declare.",
        why="every vector has a record of its model, or there are no vectors, or the rest are zero.",
        next_step="run  everindex model  to see the models; everindex embed  makes vectors that are missing, zero, or "
        "of another model.",
    )


def _too_few(compared: int, embedder: Embedder) -> DeclarationRefused:
    return DeclarationRefused(
        f"{embedder.model} is not declared: {count_text(compared, 'text')} could be compared, but {MIN_COMPARED} are "
        f"needed.",
        why="only different, non-empty texts with a non-zero vector without a record can be compared.",
        next_step="run  everindex embed --overwrite-unrecorded  to replace these vectors with those of the current "
        "model.",
    )


def _refused(best: Agreement, tried: Sequence[Agreement], embedder: Embedder, *, is_turned: bool) -> DeclarationRefused:
    figures = "; ".join(one.sentence for one in (best, *(one for one in tried if one.form != best.form)))
    if is_turned:
        why = f"they are this model's, but padded or rotated to the column's width in a different way. {figures}."
    else:
        why = f"the stored vectors differ from those that it makes from their texts. {figures}."
    return DeclarationRefused(
        f"{embedder.model} is not declared: {best.agreed} of {best.compared} stored vectors agree with it.",
        why=why,
        next_step="declare the model that made them; or run  everindex embed --overwrite-unrecorded  to make them anew "
        "with "
        "the current model, which cannot be undone.",
    )


def record_declaration(connection: Connection, table: CollectionTable, model: str, agreement: Agreement) -> None:
    """Records that `model` made the vectors of the table that have no record; one declaration per table."""
    with translate_errors("recording the declared model"):
        connection.execute(
            """
            INSERT INTO everindex_meta.declared_model
                (table_schema, table_name, model, text_form, compared, agreed, median_cosine, worst_cosine)
            VALUES (%s, 'articles', %s, %s, %s, %s, %s, %s)
            ON CONFLICT (table_schema, table_name) DO UPDATE SET
                model = excluded.model, text_form = excluded.text_form, compared = excluded.compared,
                agreed = excluded.agreed, median_cosine = excluded.median_cosine, worst_cosine = excluded.worst_cosine,
                declared_at = excluded.declared_at
            """,
            (
                table.schema, model, agreement.form, agreement.compared, agreement.agreed, agreement.median_cosine,
                agreement.worst_cosine,
            ),
        )  # fmt: skip


def withdraw_declaration(connection: Connection, table: CollectionTable, model: str) -> None:
    """Deletes the declaration that `model` made the vectors without a record; does nothing where another model is
    declared by now."""
    with translate_errors("withdrawing the declared model"):
        connection.execute(
            "DELETE FROM everindex_meta.declared_model WHERE table_schema = %s AND table_name = 'articles' AND model = "
            "%s",
            (table.schema, model),
        )
