"""The parser for gpt-oss: the harmony channels."""
