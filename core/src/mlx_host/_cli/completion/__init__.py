"""The scripts of shell completion for bash, zsh and fish; `mlx_host._completion` completes the values."""

from mlx_host._cli.completion.command import completion_command

__all__ = ["completion_command"]
