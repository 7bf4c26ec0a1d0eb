"""The parser for DeepSeek-V3.1: reasoning and tool calls."""
