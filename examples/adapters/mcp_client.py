"""A program that uses the MCP server of everindex, as an assistant would: it starts `everindex mcp` and calls its tools.

Run it with  pip install 'everindex[mcp]' ; DATABASE_URL names the server; without it, an embedded one is started (`everindex up`
fills it). Configure an assistant with the same command:  {"mcpServers": {"everindex": {"command": "everindex", "args": ["mcp"]}}}
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

EVERINDEX = str(Path(sys.executable).with_name("everindex"))


async def main() -> None:
    server = StdioServerParameters(command=EVERINDEX, args=["mcp"], env=dict(os.environ))
    async with Client(stdio_client(server)) as client:
        print("tools:", ", ".join(sorted(tool.name for tool in (await client.list_tools()).tools)))

        found: Any = (await client.call_tool("search", {"text": "a crash while importing", "k": 3})).structured_content
        print("found:", len(found["hits"]), "articles by", found["mode"])

        status: Any = (await client.call_tool("status", {})).structured_content
        print("index as declared:", status["holds"])

        wrong: Any = await client.call_tool("article", {"key": "nowhere"})
        print("an error:", wrong.content[0].text.splitlines()[0])


if __name__ == "__main__":
    asyncio.run(main())
