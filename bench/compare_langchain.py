"""The speed of everindex beside LangChain's PGVectorStore on the same server. Prints JSON; see compare.py."""

from __future__ import annotations

from compare import System, Variant, main

LANGCHAIN = System(
    name="langchain",
    script="langchain_store.py",
    variants=(
        Variant(name="langchain-postgres, psycopg", arguments=("psycopg", "off")),
        Variant(name="langchain-postgres, asyncpg", arguments=("asyncpg", "off")),
        Variant(name="langchain-postgres, psycopg, iterating", arguments=("psycopg", "strict_order")),
    ),
    is_on_our_server=True,
)

if __name__ == "__main__":
    main(LANGCHAIN)
