"""Tokenize and detokenize, as vLLM has them."""
