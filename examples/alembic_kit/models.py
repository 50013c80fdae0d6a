"""The tables of a small application: documents with an embedding, and two indexes over it."""

from __future__ import annotations

from pgvector.sqlalchemy import HALFVEC, VECTOR
from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text, cast

metadata = MetaData()

documents = Table(
    "documents",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("embedding", VECTOR(64)),
)

#: One index over all documents, at half precision: half the memory.
Index(
    "documents_embedding_idx",
    cast(documents.c.embedding, HALFVEC(64)).label("half"),
    postgresql_using="hnsw",
    postgresql_with={"m": 16, "ef_construction": 64},
    postgresql_ops={"half": "halfvec_cosine_ops"},
)

#: And a small one for the most frequent topic, with options that SQLAlchemy does not have.
Index(
    "documents_news_embedding_idx",
    documents.c.embedding,
    postgresql_using="hnsw",
    postgresql_ops={"embedding": "vector_cosine_ops"},
    postgresql_where=documents.c.topic == "news",
    info={"everindex": {"recall_floor": 0.9, "build": {"give_up_after_seconds": 3600}}},
)
