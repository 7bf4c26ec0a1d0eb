"""The parser for DeepSeek-R1: reasoning."""
