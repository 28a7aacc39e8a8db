"""Loading prepared folders, and writing trained ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.model import export, weights
from openchat_cli.model.load import load_model


def test_a_prepared_model_loads(prepared_llama: Path, prepared_starcoder: Path) -> None:
    for folder in (prepared_llama, prepared_starcoder):
        model = load_model(folder, dtype="fp32")
        assert not model.training
        assert model.dtype == torch.float32
        tokens = torch.tensor([[1, 5, 9, model.config.eos_token_id]])
        assert torch.isfinite(model(input_ids=tokens).logits).all()
    assert load_model(prepared_llama).dtype == torch.bfloat16


def test_what_is_not_a_prepared_model_is_named(
    llama: Path, prepared_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_model(tmp_path / "none")
    with pytest.raises(InputError, match=r"no openchat.json") as caught:
        load_model(llama)
    assert "openchat model prepare" in (caught.value.hint or "")
    broken = tmp_path / "broken"
    shutil.copytree(prepared_llama, broken)
    tensors = dict(model_tensors(broken))
    tensors.pop("model.norm.weight")
    weights.write(broken, tensors.items())
    with pytest.raises(InputError, match=r"model.norm.weight"):
        load_model(broken)
    (broken / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="not a whole safetensors"):
        load_model(broken)
    with pytest.raises(OpenChatError, match="device nowhere"):
        load_model(prepared_llama, device="nowhere")


def model_tensors(folder: Path) -> list[tuple[str, torch.Tensor]]:
    checkpoint = weights.Checkpoint(folder)
    return [(name, checkpoint.tensor(name)) for name in checkpoint.names]


@pytest.mark.parametrize("name", ["prepared_llama", "prepared_starcoder"])
def test_a_trained_model_is_written_like_the_prepared_one(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    like = request.getfixturevalue(name)
    model = load_model(like, dtype="fp32")
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01)
    out = tmp_path / "out"
    export.write_folder(out, like=like, model=model)
    again = load_model(out)
    for (_, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b)
    assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"
    kept = {path.name for path in like.iterdir()}
    assert {path.name for path in out.iterdir()} == kept
    for file in kept - {"config.json", "model.safetensors"}:
        assert (out / file).read_bytes() == (like / file).read_bytes()


def test_tensors_that_do_not_fit_leave_nothing(prepared_llama: Path, tmp_path: Path) -> None:
    tensors = dict(model_tensors(prepared_llama))
    tensors.pop("model.norm.weight")
    with pytest.raises(InputError, match=r"lack model.norm.weight"):
        export.write_folder(tmp_path / "out", like=prepared_llama, state_dict=tensors)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_model(
    prepared_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export.write_folder(out, like=prepared_llama, state_dict=dict(model_tensors(prepared_llama)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openchat_cli.core.jsonl.write_json", full)
    with pytest.raises(OpenChatError, match="No space left"):
        export.write_folder(out, like=prepared_llama, model=load_model(prepared_llama))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_small_shards(prepared_llama: Path, tmp_path: Path) -> None:
    tensors = model_tensors(prepared_llama)
    total = weights.write(tmp_path, tensors, shard_bytes=20_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total
    assert len(set(index["weight_map"].values())) > 2
    for name, tensor in model_tensors(tmp_path):
        assert torch.equal(tensor, dict(tensors)[name])
    # A view into a bigger buffer, as optimisers keep them, is written as itself.
    flat = torch.arange(100.0)
    weights.write(tmp_path / ".." / tmp_path.name, [("a", flat[:10]), ("b", flat[10:30])])
