"""The activity of other sessions around a build: blockers, table locks and progress.

Reads only. Imports `spec` and `pg`.
"""
