"""`python -m mlx_host` is `mlx-host`."""

from mlx_host.cli import main

main()
