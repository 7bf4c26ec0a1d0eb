from dataclasses import replace
from typing import ClassVar

from mlx_host.testing import ModelContract, chat
from mlx_host_echo import register_backends


class TestEcho(ModelContract):
    backend = register_backends()[0]
    requests = (
        chat("Hello, is the server there?"),
        chat("One two three four", max_tokens=2),
        replace(chat(""), messages=[{"role": "user", "content": [{"type": "text", "text": "A list of parts"}]}]),
    )


class TestShoutingEcho(TestEcho):
    options: ClassVar = {"uppercase": True}
