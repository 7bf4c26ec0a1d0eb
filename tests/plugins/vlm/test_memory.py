"""The memory of images and caches counts towards the budget and is released."""

from __future__ import annotations

import gc
import weakref

import mlx.core as mx
from mlx_host_text.model import TextModel
from mlx_host_text.sampling import greedy
from mlx_host_text.sequence import SequenceState
from mlx_host_vlm.batch_scheduler import BatchScheduler
from mlx_host_vlm.mlx_vlm_api import MediaInputs
from mlx_host_vlm.vision_feature_cache import VisionFeatureCache

from tests.plugins.lm.driver import chat_request
from tests.plugins.vlm.conftest import parts, processed
from tests.support.media import look


def media_inputs(model: TextModel, *seeds: int) -> MediaInputs:
    return parts(model)[0].embed(processed(model, chat_request(look(*seeds))), "")


def test_image_inputs_count_during_prefill_and_decoding(qwen: TextModel) -> None:
    scheduler = BatchScheduler(parts(qwen)[0], prefill_step_size=3)
    inputs = media_inputs(qwen, 1, 2)
    assert inputs.nbytes >= len(inputs.tokens) * 64 * 4
    for _ in range(2):
        scheduler.add(SequenceState([inputs.tokens], None, 4, greedy, [], inputs=inputs))
    while scheduler.step().prefills:
        assert scheduler.nbytes > inputs.nbytes
    # The inputs of two sequences with the same prompt count once.
    assert scheduler.nbytes == scheduler._decoding.nbytes + inputs.nbytes
    scheduler.close()
    assert scheduler.nbytes == 0


def test_prefill_caches_are_released_when_decoding_starts(qwen: TextModel) -> None:
    scheduler = BatchScheduler(parts(qwen)[0], prefill_step_size=3)
    sequence_ids = [scheduler.add(SequenceState([list(range(start, 12))], None, 50, greedy, [])) for start in (1, 2)]
    scheduler.step()
    scheduler.step()
    caches = [weakref.ref(layer) for sequence_id in sequence_ids for layer in scheduler._waiting[sequence_id].cache]
    assert caches
    while scheduler._waiting:
        scheduler.step()
    scheduler.step()
    gc.collect()
    assert [reference() for reference in caches] == [None] * len(caches)
    scheduler.close()


def test_image_features_are_cached_within_a_budget() -> None:
    cache = VisionFeatureCache(2 * 400)
    for name in ("a", "b"):
        cache.put(name, mx.zeros(100))
    assert cache.get("a") is not None
    cache.put("c", [mx.zeros(50), mx.zeros(50)])
    assert (cache.get("b"), len(cache), cache.nbytes) == (None, 2, 800)
    cache.put("too large", mx.zeros(201))
    assert (cache.get("too large"), len(cache)) == (None, 2)
