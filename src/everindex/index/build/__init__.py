"""The build of one index: footprint, memory, estimate and preflight, and `online`, which runs and watches it.

Imports only `plan`, `catalog`, `activity` and `spec`; the plan decides what is built and under which name.
"""
