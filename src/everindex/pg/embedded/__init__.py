"""The embedded server: a private PostgreSQL of one home directory, started by its first user, stopped by its last.

Imports fall: running, then process, then cluster, then config, postmaster, programs and account. Other shelves import
only `running`.
"""
