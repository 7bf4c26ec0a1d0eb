"""The parser for Hermes and its kin: reasoning, and tool calls as JSON in tags."""
