"""The parser for Granite: reasoning and tool calls."""
