"""Building blocks for backends that generate or embed text with MLX; the README lists the modules."""
