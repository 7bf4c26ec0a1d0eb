"""The parser for Qwen3-Coder: tool calls as XML."""
