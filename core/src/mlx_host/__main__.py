"""`python -m mlx_host` is `mlx-host`."""

from mlx_host._cli import main

main()
