"""The GPU's way of decoding, without a GPU: fixed addresses and shapes, recorded and replayed.

CUDA's recorder is replaced by torch's own tracer, which bakes everything that Python computes into
what it replays, as a CUDA graph does. What is not tested here is CUDA itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.engine import cuda, packed
from openchat_cli.engine.cuda_graphs import GraphRunner, Work, eager
from openchat_cli.engine.cuda_memory import Memory, slots_that_fit
from openchat_cli.engine.cuda_step import batch_sizes, capacity, first_that_holds, widths
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from tests.engine import tiny
from tests.engine.test_engine import GREEDY, MODELS, prompts
from tests.model.test_safe_weights import Heard

Sizes = list[tuple[int, ...]]


class Traced:
    """Records work with torch's tracer; replays read the same tensors and write to the same."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, work: Work) -> Work:
        self.made += 1
        return make_fx(work)()  # type: ignore[no-any-return]  # a module without inputs


def engine(model: Any = None, *, slots: int = 5, **more: Any) -> tuple[Engine, GraphRunner]:
    """An engine that decodes as on a GPU, and its runner."""
    settings = {"capture": eager, "context": 256} | more
    prefill = settings.pop("prefill_tokens", 64)
    runner = GraphRunner(model or tiny.llama(), slots=slots, vocab_size=tiny.VOCAB, **settings)
    return Engine(runner, tiny.ByteTokenizer(), tiny.KIND, prefill_tokens=prefill), runner


@pytest.fixture
def plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers as on a GPU: the CPU's packed ones can't be traced."""
    monkeypatch.setattr(packed, "pack", lambda model, dtype: 0)


@pytest.mark.parametrize("name", MODELS)
def test_static_steps_give_the_tokens_of_plain_forward_passes(name: str) -> None:
    model = MODELS[name]()
    asked = prompts(14)
    wanted = [tiny.reference(model, prompt, 24) for prompt in asked]
    with engine(model, prefill_tokens=20)[0] as made:
        together = made.complete(asked, [GREEDY] * len(asked))
        again = made.complete(asked[::-1], [GREEDY] * len(asked))  # some from what slots kept
    assert [list(completion.token_ids) for completion in together] == wanted
    assert [list(completion.token_ids) for completion in again] == wanted[::-1]
    assert sum(completion.cached_tokens for completion in again) > 0


@pytest.mark.parametrize("name", ["llama", "mistral-window", "bigcode"])
@pytest.mark.usefixtures("plain_layers")
def test_recorded_steps_replay_with_new_inputs(name: str) -> None:
    model = MODELS[name]()
    traced = Traced()
    asked = prompts(9, seed=4)
    wanted = [tiny.reference(model, prompt, 24) for prompt in asked]
    made, runner = engine(model, slots=3, capture=traced)
    with made:
        together = made.complete(asked, [GREEDY] * len(asked))
    assert [list(completion.token_ids) for completion in together] == wanted
    # 24 steps for each three prompts, and no more recordings than sizes of batch.
    assert traced.made == len(runner._graphs) <= 3


def test_rows_that_fill_a_batch_up_touch_nobody() -> None:
    """Three rows in a batch of four: the fourth slot keeps what it holds, a prompt half read."""
    model = tiny.llama(seed=2, context=100)
    runner = GraphRunner(model, slots=6, context=100, vocab_size=tiny.VOCAB, capture=eager)
    with torch.inference_mode():
        for stored in (*runner.contents.keys, *runner.contents.values):
            stored.copy_(torch.randn_like(stored))
        before = [one.clone() for one in (*runner.contents.keys, *runner.contents.values)]
        runner.decode([5, 6, 7], [99, 3, 0])
        after = [*runner.contents.keys, *runner.contents.values]
    for old, new in zip(before, after, strict=True):
        changed = (old != new).any(dim=(1, 3)).nonzero().tolist()
        assert changed == [[0, 99], [1, 3], [2, 0], [3, capacity(100) - 1]]


def test_the_last_token_of_the_context() -> None:
    never_stop = SamplingParams(temperature=0, logit_bias={65: 100.0}, max_tokens=10_000)
    model = tiny.llama(spread=0.02, context=300)
    with engine(model, context=300)[0] as made:
        completion = made.submit([tiny.BOS] * 290, never_stop).result()
    assert (completion.completion_tokens, completion.finish_reason) == (10, "length")


def test_the_graph_used_longest_ago_makes_room() -> None:
    model = tiny.llama(seed=3, context=700)
    sizes: Sizes = []

    def noting(work: Work) -> Work:
        sizes.append((len(sizes),))
        return work

    made, runner = engine(model, slots=4, context=700, capture=noting, most_graphs=2)
    params = SamplingParams(temperature=0, max_tokens=2)
    with made:
        for length in (10, 300, 10, 500, 10, 300):
            made.submit([tiny.BOS] * length, params).result()
    assert len(runner._graphs) == 2
    assert len(sizes) == 4  # 256, 384, 512 in place of 384, 384 anew


def test_what_can_not_be_recorded_runs_anyway(caplog: pytest.LogCaptureFixture) -> None:
    def refusing(work: Work) -> Work:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    model = tiny.llama(seed=1)
    prompt = prompts(1)[0]
    with engine(model, capture=refusing)[0] as made:
        completion = made.submit(prompt, GREEDY).result()
    assert list(completion.token_ids) == tiny.reference(model, prompt, 24)
    assert "not permitted" in caplog.text


def test_warm_up_records_every_batch_size_once() -> None:
    _, runner = engine(slots=9)
    runner.warm_up()
    runner.warm_up()
    assert sorted(runner._graphs) == [(size, 256) for size in (1, 2, 4, 8, 9)]


@pytest.mark.parametrize(("slots", "context"), [(1, 16), (7, 250), (32, 2048), (130, 8192)])
def test_sizes_hold_everything_and_waste_little(slots: int, context: int) -> None:
    batches, spans = batch_sizes(slots), widths(context)
    assert batches[-1] == slots
    assert context <= spans[-1] <= capacity(context)
    assert sorted(set(batches)) == batches
    assert sorted(set(spans)) == spans
    assert all(width % 16 == 0 for width in spans)
    for count in range(1, slots + 1):
        assert count <= first_that_holds(batches, count) <= max(count * 2 - 1, 1, count + 15)
    for length in range(256, context + 1, 37):
        assert length <= first_that_holds(spans, length) <= max(length * 1.5, length + 16)


# --- memory ---

GIB = 2**30


def test_memory_is_divided_into_slots() -> None:
    memory = Memory(total=80 * GIB, free=64 * GIB, working=2 * GIB)
    fit = {"context": 2048, "token_bytes": GIB // 2048}  # 1 GiB a slot
    assert slots_that_fit(memory, utilization=1, asked=256, **fit) == 62
    assert slots_that_fit(memory, utilization=0.9, asked=256, **fit) == 54  # 8 GiB stay free
    assert slots_that_fit(memory, utilization=0.9, asked=20, **fit) == 20


def test_no_room_is_one_clear_line() -> None:
    memory = Memory(total=24 * GIB, free=4 * GIB, working=GIB)
    with pytest.raises(UsageError) as caught:
        slots_that_fit(memory, utilization=0.95, asked=8, context=8192, token_bytes=2 * GIB // 4096)
    assert "\n" not in caught.value.message
    for part in ("8192 tokens (4.00 GiB)", "24.0 GiB", "--gpu-memory-utilization 0.95"):
        assert part in caught.value.message
    hint = caught.value.hint or ""
    assert hint.startswith("--context ")
    shorter = int(hint.split()[1])
    assert slots_that_fit(
        memory, utilization=0.95, asked=1, context=shorter, token_bytes=2 * GIB // 4096
    )
    with pytest.raises(UsageError, match="leaves 0.00"):
        slots_that_fit(memory, utilization=0.5, asked=8, context=8192, token_bytes=2**19)


@pytest.mark.parametrize(("free", "slots"), [(GIB, 9), (12_000_000, 2)])
def test_a_start_measures_and_divides(free: int, slots: int) -> None:
    """A slot of 8,192 tokens takes 4.2 MB here, a step 1 MB; half the device stays free."""
    looked: list[str] = []

    def measure(device: torch.device, largest_step: Callable[[], object]) -> Memory:
        looked.append(device.type)
        largest_step()
        return Memory(total=2 * GIB, free=free + GIB, working=1_000_000)

    model = tiny.llama(seed=4, context=8192)
    prompt = prompts(1)[0]
    wanted = tiny.reference(model, prompt, 24)
    settings = EngineSettings(Path("none"), max_slots=9, gpu_memory_utilization=0.5)
    heard = Heard()
    runner = cuda.start(
        model,
        settings,
        context=8192,
        vocab_size=tiny.VOCAB,
        progress=heard,
        measure=measure,
        capture=lambda device: eager,
    )
    assert (runner.slots, looked) == (slots, ["cpu"])
    assert heard.tasks == [("recording CUDA graphs", len(batch_sizes(slots)), "graphs")]
    assert {type(layer.input_layernorm) for layer in model.model.layers} == {nn.RMSNorm}
    with Engine(runner, tiny.ByteTokenizer(), tiny.KIND) as made:
        assert list(made.submit(prompt, GREEDY).result().token_ids) == wanted
        with pytest.raises(InputError, match="the context is 8192"):
            made.submit([tiny.BOS] * 8192, GREEDY)


# --- the device itself ---


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_on_a_gpu_the_tokens_are_the_same(name: str) -> None:
    from openchat_cli.engine.cuda_graphs import CudaGraphs

    model = MODELS[name]()
    asked = prompts(14)
    wanted = [tiny.reference(model, prompt, 24) for prompt in asked]
    device = torch.device("cuda")
    made, runner = engine(model.to(device), capture=CudaGraphs(device))
    runner.warm_up()
    with made:
        together = made.complete(asked, [GREEDY] * len(asked))
    assert [list(completion.token_ids) for completion in together] == wanted


def test_random_requests_in_any_order_equal_those_alone() -> None:
    model = tiny.llama(seed=7)
    rng = random.Random(1)
    asked = prompts(30, longest=200, seed=6)
    params = [SamplingParams(temperature=0, max_tokens=rng.randint(1, 30)) for _ in asked]
    with engine(model, slots=7)[0] as made:
        alone = [made.submit(*pair).result().token_ids for pair in zip(asked, params, strict=True)]
        together = made.complete(asked, params)
    assert [completion.token_ids for completion in together] == alone
