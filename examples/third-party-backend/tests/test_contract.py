from typing import ClassVar

from mlx_host.testing import ModelContract, chat
from mlx_host_echo import register_backends


class TestEcho(ModelContract):
    backend = register_backends()[0]
    requests = (chat("Hello, is there anybody there?"), chat("One two three four", max_tokens=2))


class TestShoutingEcho(TestEcho):
    options: ClassVar = {"uppercase": True}
