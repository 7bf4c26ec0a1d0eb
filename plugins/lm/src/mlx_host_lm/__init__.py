"""mlx-host's backend for text models, on mlx-lm."""
