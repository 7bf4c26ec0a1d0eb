"""The parser for FunctionGemma: tool calls."""
