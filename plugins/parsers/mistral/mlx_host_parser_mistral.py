"""The parser for Mistral: reasoning and tool calls."""
