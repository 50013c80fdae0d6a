"""add_hnsw_vector_index

Builds `articles_embedding_hnsw_idx` online (CONCURRENTLY, outside any transaction), and does so again and again with the
same end: an index that is there, valid and of this definition is left alone, one that an interrupted build left INVALID
is rebuilt, one of another definition stops the upgrade untouched. By hand the same is:

    CREATE INDEX CONCURRENTLY articles_embedding_hnsw_idx ON articles
    USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64);

Revision ID: e0aa2eb4fa0a
Revises: b6a5ff4214f5
Create Date: 2025-10-20 09:00:00
"""

from __future__ import annotations

from alembic import op

revision: str = "e0aa2eb4fa0a"
down_revision: str | None = "b6a5ff4214f5"
branch_labels: str | None = None
depends_on: str | None = None

INDEX = "articles_embedding_hnsw_idx"


def upgrade() -> None:
    op.create_vector_index(INDEX, "articles", "embedding", opclass="vector_cosine_ops", m=16, ef_construction=64)


def downgrade() -> None:
    op.drop_vector_index(INDEX, "articles", "embedding", opclass="vector_cosine_ops", m=16, ef_construction=64)
