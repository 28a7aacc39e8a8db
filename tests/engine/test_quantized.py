"""Weights of 8 bits: near the exact ones, and the same alone and in company."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from openchat_cli.core.errors import MissingExtraError, UsageError
from openchat_cli.engine import packed, quantized
from openchat_cli.engine.cuda_graphs import GraphRunner, eager
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from tests.engine import tiny
from tests.serving.folders import model_folder

CPU = torch.device("cpu")


@pytest.mark.parametrize("bias", [True, False])
def test_products_are_near_and_each_row_is_on_its_own(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(96, 200, bias=bias)
    small = quantized.Int8Linear.of(linear)
    inputs = torch.randn(3, 7, 96) * torch.linspace(0.1, 30, 7)[:, None]
    inputs[0, 0] = 0
    with torch.inference_mode():
        exact, found = linear(inputs), small(inputs)
        alone = torch.stack([small(inputs[:, place]) for place in range(7)], dim=1)
    assert found.shape == exact.shape
    assert (found - exact).norm() < 0.02 * exact.norm()
    assert torch.equal(found, alone)


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="fbgemm")
@pytest.mark.parametrize("levels", [127, 63])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_products_are_the_same_for_one_token_and_for_many(bias: bool, levels: int) -> None:
    torch.manual_seed(0)
    plain = quantized.Int8Linear.of(nn.Linear(96, 200, bias=bias))
    fast = quantized.PackedInt8Linear(plain, levels)
    inputs = torch.randn(1, 9, 96) * torch.linspace(0.001, 300, 9)[:, None]
    inputs[0, 0] = 0
    with torch.inference_mode():
        expected, many = plain(inputs), fast(inputs)
        alone = torch.cat([fast(inputs[:, place : place + 1]) for place in range(9)], dim=1)
    assert torch.allclose(many, alone, rtol=1e-5, atol=1e-6)
    assert (many - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(bad: float) -> None:
    inputs = torch.ones(2, 96)
    inputs[1, 5] = bad
    plain = quantized.Int8Linear.of(nn.Linear(96, 8, bias=False))
    for layer in (plain, quantized.pack(plain)):
        made = layer(inputs)
        assert made[0].isfinite().all()
        assert not made[1].isfinite().any()
        assert not layer(inputs[1:]).isfinite().any()


def test_a_quantized_model_answers_alike_whatever_the_load() -> None:
    model = tiny.llama(seed=2)
    quantized.quantize(model, "int8", CPU)
    prompts = [[tiny.BOS, *range(n, 2 * n)] for n in range(1, 30)]
    params = SamplingParams(temperature=0, max_tokens=12)
    with tiny.engine(model, slots=8) as engine:
        together = engine.complete(prompts, [params] * len(prompts))
        for prompt, completion in zip(prompts, together, strict=True):
            assert engine.submit(prompt, params).result().token_ids == completion.token_ids


def test_greedy_answers_stay_near_those_of_whole_weights() -> None:
    exact, rounded = tiny.llama(seed=2, spread=0.1), tiny.llama(seed=2, spread=0.1)
    quantized.quantize(rounded, "int8", CPU)
    ids = torch.randint(0, 256, (4, 60), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted, found = exact(input_ids=ids).logits, rounded(input_ids=ids).logits
    assert torch.corrcoef(torch.stack([wanted.flatten(), found.flatten()]))[0, 1] > 0.999
    assert (wanted.argmax(-1) == found.argmax(-1)).float().mean() > 0.9


def test_a_folder_is_quantized_as_it_is_loaded(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    with Engine.load(EngineSettings(model_path=folder, quantize="int8")) as engine:
        assert engine.submit([1, 5], SamplingParams(max_tokens=3, seed=1)).result().error is None


def test_what_can_not_be_done_is_said_before_loading() -> None:
    with pytest.raises(UsageError, match="needs a GPU"):
        quantized.check("int4", CPU, "fp32")
    with pytest.raises(UsageError, match="not bf16"):
        quantized.check("int8", CPU, "bf16")
    if importlib.util.find_spec("torchao") is None:
        with pytest.raises(MissingExtraError, match="'quantize' extra"):
            quantized.check("int4", torch.device("cuda"), "bf16")
    else:
        with pytest.raises(UsageError, match="computes in bf16"):
            quantized.check("int4", torch.device("cuda"), "fp32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_compute_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 40, bias=False)).to(dtype)
    inputs = torch.randn(2, 5, 64, dtype=dtype)
    with torch.inference_mode():
        expected = model(inputs)
        packed.pack(model, dtype)
        found = model(inputs)
    assert torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 2e-2)


def test_torchaos_layers_answer_in_the_gpus_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchao's 8 bits run on a CPU too; its 4 bits do not."""
    pytest.importorskip("torchao")
    monkeypatch.setattr(packed, "pack", lambda model, dtype: 0)
    model = tiny.llama(seed=2)
    quantized._by_torchao(model, "int8")
    wanted = tiny.reference(model, [tiny.BOS, 1, 2, 3], 12)
    runner = GraphRunner(model, slots=3, context=256, vocab_size=tiny.VOCAB, capture=eager)
    with Engine(runner, tiny.ByteTokenizer(), tiny.KIND) as engine:
        params = SamplingParams(temperature=0, max_tokens=12)
        found = engine.submit([tiny.BOS, 1, 2, 3], params).result()
    assert list(found.token_ids) == wanted


@pytest.mark.gpu
def test_four_bits_on_a_gpu_are_near() -> None:
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 256, bias=False)).to("cuda", torch.bfloat16)
    inputs = torch.randn(4, 1024, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = model(inputs)
        quantized.quantize(model, "int4", torch.device("cuda"))
        found = model(inputs)
    assert (found - exact).norm() < 0.2 * exact.norm()
