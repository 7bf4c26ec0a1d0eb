"""The parser for Qwen3.5, 3.6 and 3.8: reasoning, and tool calls as XML."""
