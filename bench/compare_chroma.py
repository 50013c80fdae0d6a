"""The speed of everindex beside Chroma in process. Prints JSON; see compare.py."""

from __future__ import annotations

from compare import System, Variant, main

CHROMA = System(
    name="chroma", script="chroma_collection.py", variants=(Variant(name="chroma in process"),), is_on_our_server=False
)

if __name__ == "__main__":
    main(CHROMA)
