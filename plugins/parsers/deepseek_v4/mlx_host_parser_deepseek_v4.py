"""The parser for DeepSeek-V4: reasoning and tool calls."""
