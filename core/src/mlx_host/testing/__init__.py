"""For tests of plugins: contracts as pytest classes to inherit, and test doubles. Requires `mlx-host[testing]`."""

from mlx_host.testing.api_contract import ApiContract
from mlx_host.testing.fake_service import FakeReply, FakeService
from mlx_host.testing.http import HttpResponse
from mlx_host.testing.in_process import request
from mlx_host.testing.model_contract import ModelContract, chat
from mlx_host.testing.parser_contract import ParserContract

__all__ = [
    "ApiContract",
    "FakeReply",
    "FakeService",
    "HttpResponse",
    "ModelContract",
    "ParserContract",
    "chat",
    "request",
]
