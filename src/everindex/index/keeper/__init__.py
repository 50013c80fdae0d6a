"""The keeper: observes declared indexes on a timer, heals them and measures their recall while an application runs.

Imports fall to `deploy`, `build`, `recall` and `catalog`. It runs in the process of an application, or alone
(`everindex keep`).
"""
