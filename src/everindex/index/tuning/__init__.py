"""The tuning of an index: curves of recall against latency, trials on a sample, and a recommendation.

Imports only `deploy`, `recall`, `build` and `catalog`; only `apply` changes an index, through a deploy.
"""
