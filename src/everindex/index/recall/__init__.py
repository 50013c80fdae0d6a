"""The recall of an index: probe statements, query samples, measurement, history and the verification proofs.

Changes no index; writes only samples and history in everindex_meta. Imports only `plan`, `catalog` and `spec`; the keeper and
deploys decide what follows from a low recall.
"""
