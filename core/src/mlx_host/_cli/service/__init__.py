"""`mlx-host service`: keeps a server running after login, with launchd or systemd."""

from mlx_host._cli.service.command import service_group

__all__ = ["service_group"]
