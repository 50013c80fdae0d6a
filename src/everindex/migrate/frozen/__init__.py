"""What the published revisions in alembic/versions import: frozen with them.

A revision that has run somewhere cannot be changed, and neither can what it calls: a database that is migrated today must
come out like one that was migrated a year ago. So these modules are not edited. A new revision brings what it needs with it,
or a new module here.

Frozen is what is written to the database. What refuses to write (is the server new enough, may this role create the
extension) asks today's `everindex.pg.capabilities`, and the width of the column is today's setting. A test holds the text of
the revisions and of these modules (tests/unit/migrate/test_frozen_revisions.py).
"""
