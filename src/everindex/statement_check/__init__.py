"""The check of any SQL statement: whether it uses a vector index, why not, and what would change that.

Imports only `index`, `pg` and `errors`. Statements are planned and not executed, except to measure recall; transactions are
rolled back.
"""
