"""The doctor: rules that examine one database for faults of pgvector and its indexes.

Reads only, except `fix`, which runs the statements that a rule marks as safe.
Imports point downwards: examine and fix, then the rules, then `rule`, then `examined`, then the readers (details, samples,
settings). Below these are `index`, `pg` and `errors`.
"""
