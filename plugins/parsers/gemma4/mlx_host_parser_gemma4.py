"""The parser for Gemma 4: channels and tool calls."""
