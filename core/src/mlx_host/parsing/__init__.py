"""What a parser plugin provides: text in, parts out."""

from mlx_host.parsing.parser import Content, Marker, Parser, Part, Reasoning, Sample, ToolCall

__all__ = ["Content", "Marker", "Parser", "Part", "Reasoning", "Sample", "ToolCall"]
