"""Contracts for plugin authors: pytest classes to inherit. Needs the extra `mlx-host[testing]`."""

from mlx_host.testing.model_contract import ModelContract, chat
from mlx_host.testing.parser_contract import ParserContract

__all__ = ["ModelContract", "ParserContract", "chat"]
