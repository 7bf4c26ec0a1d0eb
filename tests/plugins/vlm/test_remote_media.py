"""Remote images do not delay other requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.errors import InvalidRequestError

from tests.plugins.lm.driver import EngineLoop, chat_request
from tests.plugins.vlm.conftest import load
from tests.support.media import image_part
from tests.support.misbehaving_server import running_misbehaving_server


def test_a_download_does_not_delay_other_requests(tiny_qwen: Path) -> None:
    model = load(tiny_qwen, allow_remote_media=True, trusted_media_hosts=["127.0.0.1"])
    with running_misbehaving_server() as server:
        try:
            loop = EngineLoop(model)
            remote = loop.add(chat_request([{"role": "user", "content": [image_part(f"{server.root}/slow")]}]))
            other = loop.add(chat_request("Hello"))
            while other.finished is None:
                loop.step()
            assert remote.started is None
            server.over.set()
            with pytest.raises(InvalidRequestError, match="1 of 100 bytes"):
                loop.run()
        finally:
            model.close()
