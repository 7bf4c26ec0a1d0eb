"""Failures of a step and of loading."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.errors import EngineError, LoadError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import EngineLoop, chat_request, generate_one
from tests.plugins.lm.test_failure import FaultySamplers
from tests.plugins.vlm.conftest import load
from tests.support.media import look


def test_a_failed_step_fails_the_requests_of_its_batch_only(qwen: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate_one(qwen, chat_request(look(1))).text
    with monkeypatch.context() as patch:
        patch.setattr(qwen, "_samplers", FaultySamplers([]))
        loop = EngineLoop(qwen)
        for messages, seed in ((look(1), None), (look(2), 1), ("Three", None)):
            loop.add(chat_request(messages, sampling=Sampling(temperature=1.0, seed=seed), max_tokens=40))
        for remaining in (3, 2, 1):
            assert loop.requests == remaining
            with pytest.raises(EngineError, match="no memory left"):
                loop.run()
    assert generate_one(qwen, chat_request(look(1))).text == expected
    assert not qwen._loop.running


def test_a_folder_without_a_model_is_a_load_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_thing"}')
    with pytest.raises(LoadError, match=r"^mlx-vlm .*safetensors.*[^\n]$"):
        load(tmp_path)
    with pytest.raises(LoadError, match="missing"):
        load(tmp_path / "missing")


def test_a_template_of_strings_gets_the_processors_placeholders(tiny_qwen: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    model = load(tiny_qwen, chat_template_file=template)
    try:
        first, second = (generate_one(model, chat_request(look(seed), max_tokens=2)) for seed in (1, 2))
        assert first.prompt_tokens == second.prompt_tokens > 9
        assert second.cached_tokens < first.prompt_tokens - 9
    finally:
        model.close()
