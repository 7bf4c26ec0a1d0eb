"""mlx-host's backend for vision and audio models, on mlx-vlm."""
