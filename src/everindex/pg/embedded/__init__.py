"""The embedded server: a private PostgreSQL of one home directory, started by its first user, stopped by its last.

Imports point downwards: running, then process, then cluster, then config, postmaster, programs and account. Other packages
import only `running`.
"""
