"""The list of served models."""
