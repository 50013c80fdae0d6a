"""The catalog about a declared index: what exists, which generation it is, and how it differs.

Imports `spec`, the journal and `pg`. Changes no index; writes only notes in comments and in everindex_meta.
"""
