"""The build of one index: footprint, memory, estimate and preflight, and `online`, which runs and watches it.

Imports fall to `plan`, `catalog`, `activity` and `spec`; what is built under which name is decided by the plan.
"""
