"""The parser for DeepSeek-V3: reasoning and tool calls."""
