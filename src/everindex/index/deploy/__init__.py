"""The deploy of a declared vector index: executor, acceptance, swap, preview and warm-up.

Plans are executed here and nowhere else. Imports only `build`, `recall`, `plan`, `catalog` and `activity`.
"""
