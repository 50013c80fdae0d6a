"""The plan of a deploy: from a declaration and an observed catalog to typed steps. Pure; no driver, clock or logging.

Imports the data of `catalog` and `spec`; `deploy` executes plans.
"""
