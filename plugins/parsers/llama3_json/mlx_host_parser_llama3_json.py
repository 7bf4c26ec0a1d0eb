"""The parser for Llama 3 and 4: tool calls as bare JSON."""
