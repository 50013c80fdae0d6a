"""The former import path of `alembic_kit.env.require_single_head`, for applications that still use it.

New code imports from everindex.alembic_kit (docs/alembic-kit.md). This module has only the public names.
"""

from __future__ import annotations

import sys

from everindex.alembic_kit.heads import main, require_single_head

__all__ = ["require_single_head"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
