"""The check of somebody's migration before it runs: what its SQL would do to vector indexes and the tables under them.

Read as text: nothing of a migration is executed here.
"""
