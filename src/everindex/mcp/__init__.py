"""The MCP server: read-only tools over an instance for language models; needs the extra `everindex[mcp]`."""
