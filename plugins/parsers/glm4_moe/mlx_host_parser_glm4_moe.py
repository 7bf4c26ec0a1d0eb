"""The parser for GLM-4.5 to GLM-5: reasoning and tool calls."""
