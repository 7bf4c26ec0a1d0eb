"""The parser for MiniMax-M3: reasoning and tool calls."""
