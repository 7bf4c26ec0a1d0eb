"""Translates the command lines and configuration files of mlx-openai-server."""

from mlx_host._cli.migration.arguments import COMMAND, Translation, translate, type_flag
from mlx_host._cli.migration.config_file import SUFFIXES, load_yaml

__all__ = ["COMMAND", "SUFFIXES", "Translation", "load_yaml", "translate", "type_flag"]
