"""The index engine: it observes, plans, builds, verifies and maintains declared vector indexes on any table.

Imports point downwards: keeper and tuning, then deploy, then build and recall, then plan, then catalog, then activity, journal
and privileges, then `spec`. Only `build`, `deploy` and their callers change an index; nothing here imports from
`articles`, `web` or `cli`.
"""
