"""mlx-host backend for pictures: mflux."""
