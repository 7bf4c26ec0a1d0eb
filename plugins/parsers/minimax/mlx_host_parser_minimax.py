"""The parser for MiniMax-M2: reasoning and tool calls."""
