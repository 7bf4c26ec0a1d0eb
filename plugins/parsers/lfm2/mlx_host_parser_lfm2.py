"""The parser for LFM2: tool calls as Python."""
