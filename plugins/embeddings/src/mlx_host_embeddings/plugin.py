"""The entry point of the backend embeddings."""
