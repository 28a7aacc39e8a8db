"""Weights come as plain tensors and code does not come at all, unless it is asked for."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.engine.engine import Engine
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from openchat_cli.model import weights
from openchat_cli.model.load import load_model
from tests.conftest import RunCli
from tests.model.hub_stand_in import Hub, serving

GREEDY = SamplingParams(temperature=0, max_tokens=8)


def as_release(prepared: Path, out: Path, *, shards: int) -> Path:
    """A folder as the releases of 2023: `.bin` files with buffers in them, no openchat.json."""
    shutil.copytree(prepared, out, ignore=shutil.ignore_patterns("*.safetensors", "openchat.json"))
    found = weights.Checkpoint(prepared)
    tensors = {name: found.tensor(name).half() for name in found.names}
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.rand(4)
    if shards == 1:
        torch.save(tensors, out / "pytorch_model.bin")
        return out
    where: dict[str, str] = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        names = list(tensors)[number::shards]
        torch.save({name: tensors[name] for name in names}, out / file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (out / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return out


@pytest.mark.parametrize("shards", [1, 3])
def test_a_release_of_2023_answers_as_its_safetensors_do(
    prepared_llama: Path, tmp_path: Path, shards: int
) -> None:
    release = as_release(prepared_llama, tmp_path / "release", shards=shards)
    with Engine.load(EngineSettings(release, model_type="openchat")) as engine:
        found = engine.submit([1, 50, 60], GREEDY).result()
        assert engine.weight_bytes == pytest.approx(
            4
            * sum(torch.Size(shape).numel() for shape in weights.skeleton(release).shapes.values()),
            rel=0.01,
        )
    with Engine.load(EngineSettings(prepared_llama)) as engine:
        # Weights of bf16 lose nothing in half precision unless they are tiny.
        assert engine.submit([1, 50, 60], GREEDY).result().token_ids == found.token_ids


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, Any]:
        return os.system, ("touch was-run",)


def evil_folder(prepared: Path, out: Path, *, kind: str) -> Path:
    release = as_release(prepared, out, shards=2)
    first = release / "pytorch_model-00001-of-00002.bin"
    held = torch.load(first, weights_only=True)
    if kind == "in a shard":
        torch.save(held | {"model.norm.weight": Evil()}, first)
    elif kind == "a bare pickle":
        first.write_bytes(pickle.dumps(Evil()))
    elif kind == "the whole model":
        torch.save(torch.nn.Linear(2, 2), first)
    elif kind == "a list":
        torch.save([torch.ones(2)], first)
    elif kind == "no tensor":
        torch.save(held | {"model.norm.weight": 5}, first)
    elif kind == "cut short":
        first.write_bytes(first.read_bytes()[:-200])
    elif kind == "empty":
        first.write_bytes(b"")
    elif kind == "no pickle":
        first.write_bytes(b"hello" * 50)
    return release


KINDS = {
    "in a shard": "calls posix.system",
    "a bare pickle": "pytorch_model-00001",
    "the whole model": "torch.nn.modules.linear.Linear",
    "a list": "no table of tensors",
    "no tensor": "'model.norm.weight' is no tensor",
    "cut short": "can't be read",
    "empty": "can't be read",
    "no pickle": "pytorch_model-00001",
}


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_tensors_is_refused_and_nothing_runs(
    prepared_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = evil_folder(prepared_llama, tmp_path / "evil", kind=kind)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        Engine.load(EngineSettings(folder, model_type="openchat"))
    assert KINDS[kind] in caught.value.message
    assert "pytorch_model-00001-of-00002.bin" in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "name", ["consolidated.00.pth", "model.pt", "last.ckpt", "weights.pkl", "model.pickle"]
)
def test_other_pickles_are_refused(prepared_llama: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(prepared_llama, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=f"{name}.*refused"):
        load_model(folder)


@pytest.mark.parametrize(
    "file", ["../elsewhere.bin", "/etc/passwd", "weights.pt", "model.safetensors", 5]
)
def test_an_index_names_files_beside_it(prepared_llama: Path, tmp_path: Path, file: Any) -> None:
    folder = as_release(prepared_llama, tmp_path / "model", shards=1)
    (folder / "pytorch_model.bin").unlink()
    index = {"weight_map": {"model.norm.weight": file}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="no .bin file beside it"):
        weights.Checkpoint(folder)


@pytest.mark.parametrize("table", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_an_index_without_a_map(prepared_llama: Path, tmp_path: Path, table: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(prepared_llama, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors.index.json").write_text(table)
    with pytest.raises(InputError, match="no weight_map"):
        load_model(folder)


# --- code of a model's own ---

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({mark!r}).touch()
class OwnConfig(LlamaConfig):
    pass
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(prepared_llama: Path, tmp_path: Path) -> Path:
    """A folder that brings Python files, which leave a mark when they run."""
    folder = tmp_path / "own"
    shutil.copytree(prepared_llama, folder)
    (folder / "modeling_own.py").write_text(CODE.format(mark=str(tmp_path / "was-run")))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_own_code_is_refused_and_not_run(own_code: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"modeling_own\.py\), which is not run") as caught:
        load_model(own_code)
    assert "--trust-remote-code" in (caught.value.hint or "")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.slow
def test_own_code_runs_where_it_is_trusted(
    openchat: RunCli, own_code: Path, tmp_path: Path
) -> None:
    options = ("--model-path", own_code, "--max-tokens", 3, "--temperature", 0)
    env = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    refused = openchat("chat", *options, stdin="Hi\n", env=env)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 2
    assert not (tmp_path / "was-run").exists()
    ended = openchat("chat", *options, "--trust-remote-code", stdin="Hi\n", env=env)
    assert ended.returncode == 0, ended.stderr
    assert "warning: " in ended.stderr
    assert "modeling_own.py" in ended.stderr
    assert (tmp_path / "was-run").exists()


@pytest.mark.slow
def test_code_of_the_hub_comes_with_the_flag_alone(
    openchat: RunCli, own_code: Path, tmp_path: Path
) -> None:
    with serving(Hub({"open/own": own_code})) as hub:
        cache = tmp_path / "cache"
        env = hub.environment(cache) | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
        options = ("--model-path", "open/own", "--max-tokens", 3, "--temperature", 0)
        refused = openchat("chat", *options, stdin="Hi\n", env=env)
        assert refused.returncode == 2
        assert "modeling_own.py" in refused.stderr
        assert not list(cache.rglob("*.py"))
        ended = openchat("chat", *options, "--trust-remote-code", stdin="Hi\n", env=env)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "was-run").exists()


# --- progress ---


class Heard:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, float | None, str]] = []
        self.done: list[float] = []

    def task(self, description: str, total: float | None = None, unit: str = "") -> Heard:
        self.tasks.append((description, total, unit))
        return self

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *args: object) -> None:
        return None

    def advance(self, amount: float = 1) -> None:
        self.done.append((self.done[-1] if self.done else 0) + amount)

    def update(self, *, done: float | None = None, **more: object) -> None:
        self.done.append(done or 0)

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        return None


def test_loading_tells_of_every_tensor(prepared_llama: Path) -> None:
    heard = Heard()
    model = load_model(prepared_llama, progress=heard)
    ((description, total, unit),) = heard.tasks
    assert (description, unit) == (f"loading {prepared_llama.name}", "MB")
    assert total == pytest.approx(sum(one.nbytes for one in model.parameters()) / 1e6)
    assert heard.done == sorted(heard.done)
    assert len(heard.done) > 15
    assert heard.done[-2] == pytest.approx(total)
