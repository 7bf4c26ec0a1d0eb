"""What is kept of pictures counts towards the budget, and goes when it is not needed any more."""

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

from tests.plugins.lm.driver import ask
from tests.plugins.vlm.conftest import parts, processed
from tests.support.media import look


def seen(model: TextModel, *seeds: int) -> MediaInputs:
    return parts(model)[0].embed(processed(model, ask(look(*seeds))), "")


def test_prompts_with_pictures_count_while_they_are_read_and_answered(qwen: TextModel) -> None:
    rows = BatchScheduler(parts(qwen)[0], prefill_step_size=3)
    inputs = seen(qwen, 1, 2)
    assert inputs.nbytes >= len(inputs.tokens) * 64 * 4
    for _ in range(2):
        rows.add(SequenceState([inputs.tokens], None, 4, greedy, [], inputs=inputs))
    while rows.step().prefills:
        assert rows.nbytes > inputs.nbytes
    # Two answers to one prompt hold it together.
    assert rows.nbytes == rows._decoding.nbytes + inputs.nbytes
    rows.close()
    assert rows.nbytes == 0


def test_a_row_that_decodes_holds_no_caches_of_its_own(qwen: TextModel) -> None:
    rows = BatchScheduler(parts(qwen)[0], prefill_step_size=3)
    uids = [rows.add(SequenceState([list(range(start, 12))], None, 50, greedy, [])) for start in (1, 2)]
    rows.step()
    rows.step()
    caches = [weakref.ref(layer) for uid in uids for layer in rows._waiting[uid].cache]
    assert caches
    while rows._waiting:
        rows.step()
    rows.step()
    gc.collect()
    assert [cache() for cache in caches] == [None] * len(caches)
    rows.close()


def test_pictures_that_were_seen_are_kept_within_a_budget() -> None:
    kept = VisionFeatureCache(2 * 400)
    for name in ("a", "b"):
        kept.put(name, mx.zeros(100))
    assert kept.get("a") is not None
    kept.put("c", [mx.zeros(50), mx.zeros(50)])
    assert (kept.get("b"), len(kept), kept.nbytes) == (None, 2, 800)
    kept.put("too large", mx.zeros(201))
    assert (kept.get("too large"), len(kept)) == (None, 2)
