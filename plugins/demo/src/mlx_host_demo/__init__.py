"""Small real models for mlx-host whose weights are on the package index."""
