"""The parser for Phi-4-mini: tool calls."""
