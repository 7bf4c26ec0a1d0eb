"""Small real models for mlx-host that come from the package index."""
