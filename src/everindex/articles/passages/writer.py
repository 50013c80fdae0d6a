"""The cutting of whole texts: those that are due become passages with vectors, and passages of older texts go.

Passages are stored first and older ones removed after, in a transaction that also records the cut. A process that is killed in
between leaves the text due: the next one finds the same passages, since their keys are made of their words, and embeds only what
is missing. Meanwhile a search shows no passage that its text does not have.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from everindex.articles.collections.collection import Collection
from everindex.articles.connections.reading import Reading
from everindex.articles.declared import ARTICLES, whole_texts_of
from everindex.articles.embedding import Embedder
from everindex.articles.ingest.passage_report import PassageReport
from everindex.articles.passages import store
from everindex.articles.passages.splitter import Cut, Splitter
from everindex.articles.passages.store import WholeText
from everindex.articles.search.vector.engine import SearchEngine
from everindex.articles.searchable import Searchable
from everindex.articles.shape.cut import PassageCounts, TextCut
from everindex.articles.shape.spec import CollectionSpec
from everindex.articles.table import read_table
from everindex.errors import PermissionDenied
from everindex.index.reporter import Reporter
from everindex.pg import own_schema
from everindex.pg.connections import connect
from everindex.settings import Settings

#: Characters of the texts of one round.
ROUND_CHARACTERS = 1_000_000
#: Texts of one round.
ROUND_TEXTS = 50


class Opener(Protocol):
    """What of an instance is needed."""

    @property
    def conninfo(self) -> str: ...
    @property
    def direct_conninfo(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def engine(self) -> SearchEngine: ...
    def collection(self, name: str) -> Collection: ...
    def invalidate(self) -> None: ...


class PassageWriter:
    """Cuts the whole texts of one collection, by default the articles of the instance."""

    def __init__(self, instance: Opener, spec: CollectionSpec = ARTICLES) -> None:
        self._instance = instance
        self._spec = spec

    @property
    def is_off(self) -> bool:
        return self._instance.settings.passages == "off"

    def splitter(self, embedder: Embedder) -> Splitter:
        """The splitter of the settings, for a model."""
        return Splitter(embedder, passage_tokens=self._instance.settings.passage_tokens)

    def due(self, embedder: Embedder, keys: Sequence[str] | None = None) -> list[str]:
        """The keys of the rows (of `keys`) whose whole text is to be cut. Reads every text (of `keys`)."""
        if self.is_off:
            return []
        with connect(self._instance.conninfo, application_name="everindex passages") as connection:
            table = read_table(connection, self._spec)
            if table.dimensions is None or not store.has_whole_texts(connection, table, keys):
                return []
            return store.read_due(
                connection, table, model=embedder.model,
                passage_tokens=self.splitter(embedder).passage_tokens, keys=keys,
            )  # fmt: skip

    def of(self, key: str) -> TextCut | None:
        """How the whole text of a row was cut; None where it was not. Reads only."""
        table = self._owner.engine.known()[0]
        if not table.has_passages:
            return None
        return self._instance.reading.read(lambda connection: store.read_cut(connection, table, key))

    def counts(self) -> PassageCounts | None:
        """How many whole texts were cut into how many passages, and how many are due; None where there are no whole texts."""
        with connect(self._instance.conninfo, application_name="everindex passages") as connection:
            return store.read_counts(connection, read_table(connection, self._spec))

    def cut(
        self,
        embedder: Embedder,
        keys: Sequence[str] | None = None,
        *,
        due: Sequence[str] | None = None,
        on_texts: Callable[[int], None] | None = None,
        reporter: Reporter | None = None,
    ) -> PassageReport:
        """Cuts the texts that are due (of `keys`), a round at a time; can be interrupted at any point. `due`: a recent result of
        that method. Raises what making the table, embedding and storing raise."""
        report = PassageReport()
        if self.is_off:
            return report
        waiting = self.due(embedder, keys) if due is None else due
        if not waiting:
            return report
        try:
            own_schema.ensure(self._instance.direct_conninfo)
            for start in range(0, len(waiting), ROUND_TEXTS):
                batch = waiting[start : start + ROUND_TEXTS]
                self._cut_batch(embedder, batch, report)
                if on_texts is not None:
                    on_texts(len(batch))
        except PermissionDenied as exc:
            report.failure_reason = f"whole texts were not cut: {exc.what.rstrip('.')}"
            report.next_step = exc.next_step
        if report.passages:
            self._deploy_missing(reporter)  # loaded first, indexed afterwards
            self._owner.invalidate()
        return report

    def complete(self, *, reporter: Reporter | None = None) -> PassageReport:
        """Makes the vectors that passages lack, or have of another model, removes those of texts that are gone, and builds the
        index where a process ended between loading and building."""
        report = PassageReport()
        with connect(self._instance.conninfo, application_name="everindex passages") as connection:
            table = read_table(connection, self._spec)
            if not table.has_passages:
                return report
            report.removed = store.remove_orphans(connection, table)
        done = self._passages().embed_missing()
        report.embedded = done.stored.updated
        report.without_vector, report.failure_reason = done.without_vector, done.failure_reason
        try:
            self._deploy_missing(reporter)
        except PermissionDenied as exc:  # whoever embeds need not own the table
            report.failure_reason = report.failure_reason or f"the passages have no index: {exc.what.rstrip('.')}"
            report.next_step = report.next_step or exc.next_step
        return report

    def _deploy_missing(self, reporter: Reporter | None) -> None:
        """Builds the index of the passages where none serves. Raises what a deploy raises."""
        passages = self._passages()
        passages.engine.invalidate()
        if passages.engine.known()[1].index_name is None:
            passages.deploy(reporter=reporter)

    @property
    def _owner(self) -> Searchable | Opener:
        """Whose texts these are."""
        return self._instance if self._spec is ARTICLES else self._instance.collection(self._spec.name)

    def _passages(self) -> Collection:
        """The collection of passages, made where it is not there yet."""
        instance = self._instance
        with connect(instance.direct_conninfo, application_name="everindex passages") as connection:
            is_new = store.make_table(connection, read_table(connection, self._spec))
        declared = whole_texts_of(self._spec)
        assert declared is not None  # whoever cuts declares texts
        collection = instance.collection(declared.passages.name)
        if is_new:
            self._owner.invalidate()
            collection.invalidate()
        return collection

    def _cut_batch(self, embedder: Embedder, batch: Sequence[str], report: PassageReport) -> None:
        splitter = self.splitter(embedder)
        declared = whole_texts_of(self._spec)
        owner = "uri" if declared is None else declared.owner
        with connect(self._instance.conninfo, application_name="everindex passages") as connection:
            table = read_table(connection, self._spec)
            store.make_cuts(connection, table)
            texts = store.read_texts(connection, table, batch)
            for some in _rounds(texts):
                rows: list[dict[str, Any]] = []
                done: list[tuple[WholeText, Cut, list[str]]] = []
                for text in some:
                    cut = _cut_of(text, splitter)
                    of_text = passage_rows(text, cut, owner=owner)
                    rows += of_text
                    done.append((text, cut, [row["id"] for row in of_text]))
                if rows:
                    stored = self._passages().upsert(rows)
                    report.without_vector += stored.without_vector
                    report.failure_reason = report.failure_reason or stored.failure_reason
                    report.embedded += max(stored.stored.inserted - stored.without_vector, 0)
                report.removed += store.finish(
                    connection,
                    read_table(connection, self._spec),
                    done,
                    model=embedder.model,
                    passage_tokens=splitter.passage_tokens,
                )
                report.texts += sum(bool(keys) for *_, keys in done)
                report.passages += len(rows)


def _cut_of(text: WholeText, splitter: Splitter) -> Cut:
    """The passages that a text needs: none where the vector of its row says the same already."""
    if text.is_repeated:
        return Cut(spans=[], tokens=None)
    cut = splitter.cut(text.text)
    return replace(cut, spans=[]) if text.is_in_vector and len(cut.spans) <= 1 else cut


def passage_rows(text: WholeText, cut: Cut, *, owner: str = "uri") -> list[dict[str, Any]]:
    """The passages of a text as rows; `owner` is their column for the key of its row. Their own key is made of that key and the
    words: the same passage of a changed text has the same key, wherever it stands, and keeps its vector."""
    rows = []
    times: Counter[str] = Counter()
    for number, (start, end) in enumerate(cut.spans, start=1):
        words = text.text[start:end]
        times[words] += 1
        content = "\0".join((text.key, words, str(times[words])))
        key = uuid.UUID(bytes=hashlib.blake2b(content.encode(), digest_size=16).digest())
        rows.append(
            {"id": str(key), owner: text.key, "number": number, "starts_at": start, "ends_at": end, "text": words}
        )
    return rows


def _rounds(texts: Sequence[WholeText]) -> list[list[WholeText]]:
    """The texts in rounds of at most ROUND_CHARACTERS, or of one text."""
    rounds: list[list[WholeText]] = []
    size = 0
    for text in texts:
        if not rounds or size + len(text.text) > ROUND_CHARACTERS:
            rounds.append([])
            size = 0
        rounds[-1].append(text)
        size += len(text.text)
    return rounds
