"""The deploy of a declared vector index: executor, acceptance, swap, preview and warm-up.

Plans are carried out here and nowhere else. Imports fall to `build`, `recall`, `plan`, `catalog` and `activity`.
"""
