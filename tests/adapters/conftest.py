"""The ring of the adapters: it runs in .venv-adapters (`make test-adapters`), where the frameworks are.

Elsewhere nothing of it is collected.
"""

from __future__ import annotations

import importlib.util

if any(importlib.util.find_spec(name) is None for name in ("langchain_tests", "llama_index", "mcp")):
    collect_ignore_glob = ["test_*.py"]
