"""mlx-host backend for image generation and editing, built on mflux."""
