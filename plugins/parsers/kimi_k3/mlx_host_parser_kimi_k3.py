"""The parser for Kimi K3: the XTML channels."""
