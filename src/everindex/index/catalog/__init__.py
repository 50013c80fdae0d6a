"""The catalog's view of a declared index: what exists, which generation it is, and how it differs.

Imports `spec`, the journal and `pg`. Changes no index; writes only comments on indexes and records in everindex_meta.
"""
