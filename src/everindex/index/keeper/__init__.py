"""The keeper: observes declared indexes on a timer, heals them and measures their recall while an application runs.

Imports only `deploy`, `build`, `recall` and `catalog`. It runs inside the process of an application, or on its own
(`everindex keep`).
"""
