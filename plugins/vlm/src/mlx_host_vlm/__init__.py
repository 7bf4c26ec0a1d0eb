"""mlx-host backend for models that see and hear: mlx-vlm."""
