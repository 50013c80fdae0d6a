"""The check of any SQL statement: whether it uses a vector index, why not, and what would change that.

A product of its own: imports from `index`, `pg` and `errors` only. Statements are planned and not executed, except
where recall is measured; transactions are rolled back.
"""
