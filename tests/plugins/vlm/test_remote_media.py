"""Remote images do not delay other requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.errors import InvalidRequestError

from tests.plugins.lm.driver import Round, ask
from tests.plugins.vlm.conftest import load
from tests.support.media import image_part
from tests.support.misbehaving_server import running_misbehaving_server


def test_a_download_does_not_delay_other_requests(tiny_qwen: Path) -> None:
    model = load(tiny_qwen, allow_remote_media=True, trusted_media_hosts=["127.0.0.1"])
    with running_misbehaving_server() as server:
        try:
            together = Round(model)
            waits = together.join(ask([{"role": "user", "content": [image_part(f"{server.root}/slow")]}]))
            other = together.join(ask("Hello"))
            while other.finished is None:
                together.turn()
            assert waits.started is None
            server.over.set()
            with pytest.raises(InvalidRequestError, match="the server sent 1 of 100 bytes"):
                together.finish()
        finally:
            model.close()
