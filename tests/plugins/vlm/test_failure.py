"""When the network fails, the requests in its batch fail with it, and the next ones are served."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlx_host.errors import EngineError, LoadError
from mlx_host.requests import Sampling
from mlx_host_text.model import TextModel

from tests.plugins.lm.driver import Round, answer_one, ask
from tests.plugins.lm.test_failure import FaultySamplers
from tests.plugins.vlm.conftest import load
from tests.support.media import look


def test_a_failing_batch_fails_all_its_requests_and_none_after(
    qwen: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer_one(qwen, ask(look(1))).text
    with monkeypatch.context() as patch:
        patch.setattr(qwen, "_samplers", FaultySamplers([]))
        together = Round(qwen)
        for messages, seed in ((look(1), None), (look(2), 1), ("Three", None)):
            together.join(ask(messages, sampling=Sampling(temperature=1.0, seed=seed), max_tokens=40))
        for left in (3, 2, 1):
            assert len(together._open) == left
            with pytest.raises(EngineError, match="no memory left"):
                together.finish()
            together._open = [pair for pair in together._open if pair[0].gi_frame is not None]  # type: ignore[attr-defined]  # it is a generator
    assert answer_one(qwen, ask(look(1))).text == expected
    assert not qwen._loop.running


def test_a_folder_that_holds_no_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such_thing"}')
    with pytest.raises(LoadError, match=r"^mlx-vlm cannot load .*: No safetensors found in .*[^\n]$"):
        load(tmp_path)
    with pytest.raises(LoadError, match="needs a folder"):
        load(tmp_path / "missing")


def test_a_template_of_text_gets_the_marks_that_the_processor_looks_for(tiny_qwen: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    model = load(tiny_qwen, chat_template_file=template)
    try:
        first, second = (answer_one(model, ask(look(seed), max_tokens=2)) for seed in (1, 2))
        assert first.prompt_tokens == second.prompt_tokens > 9
        assert second.cached_tokens < first.prompt_tokens - 9
    finally:
        model.close()
