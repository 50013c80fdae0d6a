"""add incident status table

Revision ID: b6a5ff4214f5
Revises: 8eadb2079747
Create Date: 2025-10-05 09:00:00
"""

from __future__ import annotations

from alembic import op

revision: str = "b6a5ff4214f5"
down_revision: str | None = "8eadb2079747"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF to_regclass('incident_status') IS NULL THEN
                    CREATE TABLE incident_status (
                        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                        incident_name text NOT NULL,
                        topic text NOT NULL,
                        status text NOT NULL DEFAULT 'active',
                        created_at timestamptz NOT NULL DEFAULT now(),
                        updated_at timestamptz NOT NULL DEFAULT now(),
                        CONSTRAINT incident_status_key UNIQUE (incident_name, topic)
                    );
                    COMMENT ON TABLE incident_status IS 'everindex: made by revision {revision}';
                END IF;
            END $everindex$
        """
    )


def downgrade() -> None:
    op.execute(
        f"""
            DO $everindex$
            BEGIN
                IF obj_description(to_regclass('incident_status'), 'pg_class')
                        = 'everindex: made by revision {revision}' THEN
                    DROP TABLE incident_status;
                ELSE
                    RAISE NOTICE 'table incident_status was not made by this chain: it is kept';
                END IF;
            END $everindex$
        """
    )
