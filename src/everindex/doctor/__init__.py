"""The doctor: rules that examine one database for faults of pgvector and its indexes.

Reads only; `fix` alone runs statements, and only those that a rule calls safe.
Imports fall: examine and fix, then rules, then `rule`, then `examined`, then what is read (details, samples, settings).
Everything below comes from `index`, `pg` and `errors`.
"""
