"""mlx-host's backend for embeddings, on mlx-embeddings."""
