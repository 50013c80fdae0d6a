"""The speed of everindex beside LlamaIndex's PGVectorStore on the same server. Prints JSON; see compare.py."""

from __future__ import annotations

from compare import System, Variant, main

LLAMAINDEX = System(
    name="llamaindex",
    script="llamaindex_store.py",
    variants=(
        Variant(name="llama-index postgres", arguments=("off",)),
        Variant(name="llama-index postgres, iterating", arguments=("strict_order",)),
    ),
    is_on_our_server=True,
)

if __name__ == "__main__":
    main(LLAMAINDEX)
