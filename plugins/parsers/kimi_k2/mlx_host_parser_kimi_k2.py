"""The parser for Kimi K2: reasoning and tool calls."""
