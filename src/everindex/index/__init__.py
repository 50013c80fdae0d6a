"""The index engine: a declared vector index observed, planned, built, verified and kept as declared, on any table.

Imports fall: keeper and tuning, then deploy, then build and recall, then plan, then catalog, then activity, journal and
privileges, then `spec`. Only `build`, `deploy` and what calls them change an index; nothing here imports from
`articles`, `web` or `cli`.
"""
