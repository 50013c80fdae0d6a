"""The tuning of an index: curves of recall against latency, trials on a sample, and a recommendation.

Imports fall to `deploy`, `recall`, `build` and `catalog`; `apply` alone changes an index, through a deploy.
"""
