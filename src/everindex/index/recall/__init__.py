"""The recall of an index: probe statements, query samples, measurement, history and the verification proofs.

Changes no index; writes only samples and history in everindex_meta. Imports fall to `plan`, `catalog` and `spec`; the
consequence of a low recall is decided by the keeper and by deploys.
"""
