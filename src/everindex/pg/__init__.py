"""PostgreSQL itself: addresses, connections, pools, advisory locks, capabilities and the translation of its errors.

Imports from `settings`, `errors` and the other root modules only; nothing here depends on declarations, articles or
pages. `pg/embedded` is the server that everindex runs itself.
"""
