"""The parser for DeepSeek-V3.2: reasoning and tool calls."""
