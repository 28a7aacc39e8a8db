"""Embeddings, context and refusals of `prepare`, read back from the files it wrote."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from openchat_cli.core import registry, tokens
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.progress import SILENT, Task
from openchat_cli.model.prepare import prepare
from openchat_cli.model.settings import PrepareSettings
from tests.core import shared
from tests.model.bases import make_llama, make_starcoder


class Listener:
    """A progress that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def task(self, description: str, total: float | None = None, unit: str = "") -> Task:
        return SILENT.task(description, total, unit)

    def note(self, message: str) -> None:
        return None

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def read(folder: Path, name: str = "config.json") -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def test_llama_gets_the_exact_mean_and_keeps_every_bit(llama: Path, prepared_llama: Path) -> None:
    before, after = weights(llama), weights(prepared_llama)
    assert before.keys() == after.keys()
    for name, old in before.items():
        new = after[name]
        assert new.dtype == old.dtype == torch.bfloat16
        if name in (INPUT, OUTPUT):
            assert new.shape == (701, 32)
            assert torch.equal(new[700], old.float().mean(0).bfloat16())
            new = new[:700]
        assert torch.equal(new, old)


def test_starcoder_gets_a_seeded_normal_draw(starcoder: Path, tmp_path: Path) -> None:
    name = "transformer.wte.weight"
    old = weights(starcoder)[name]
    rows: list[torch.Tensor] = []
    for number, seed in enumerate((42, 42, 7)):
        out = tmp_path / str(number)
        prepare(PrepareSettings(starcoder, out, "opencoder", seed=seed))
        new = weights(out)[name]
        assert torch.equal(new[:-1], old)
        assert OUTPUT not in weights(out)  # tied: it is the input embedding
        rows.append(new[-1].float())
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert 0.01 < float(torch.stack(rows).std()) < 0.03


def test_the_context_of_8192_leaves_the_rotary_base_alone(llama: Path, tmp_path: Path) -> None:
    listener = Listener()
    summary = prepare(PrepareSettings(llama, tmp_path / "out", "openchat_8192"), progress=listener)
    config = read(tmp_path / "out")
    assert config["max_position_embeddings"] == summary.context == 8192
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 20000.0
    assert config["rope_parameters"]["rope_type"] == "default"
    assert "rope_scaling" not in config
    assert len(listener.warnings) == 1
    assert "128 tokens" in listener.warnings[0]
    assert "64-fold" in listener.warnings[0]


def test_a_context_of_ones_own(llama: Path, tmp_path: Path) -> None:
    listener = Listener()
    settings = PrepareSettings(llama, tmp_path / "out", "openchat", context=64)
    assert prepare(settings, progress=listener).context == 64
    assert not listener.warnings
    assert read(tmp_path / "out")["max_position_embeddings"] == 128
    manifest = tokens.read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest.context, manifest.type.context) == (64, 64)


def test_learned_positions_can_not_be_extended(tmp_path: Path) -> None:
    base = make_starcoder(tmp_path / "base", n_positions=512)
    with pytest.raises(UsageError, match="512: they can't be extended to the 8192") as caught:
        prepare(PrepareSettings(base, tmp_path / "out", "opencoder"))
    assert caught.value.hint == "add --context 512"
    assert prepare(PrepareSettings(base, tmp_path / "out", "opencoder", context=512)).context == 512


def test_the_manifest_and_the_folder(prepared_llama: Path) -> None:
    manifest = tokens.read_manifest(prepared_llama)
    assert manifest is not None
    assert (manifest.model_type, manifest.eot_id, manifest.context) == ("openchat", 700, 2048)
    tokenizer = tokens.load_tokenizer(prepared_llama, manifest.type)
    assert tokenizer.hash == manifest.tokenizer_hash
    assert read(prepared_llama)["eos_token_id"] == 700
    assert read(prepared_llama, "generation_config.json") == {
        "eos_token_id": 700,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    assert {path.name for path in prepared_llama.iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "openchat.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    assert {path.stat().st_mode & 0o777 for path in prepared_llama.iterdir()} == {
        (prepared_llama / "config.json").stat().st_mode & 0o777
    }


def test_tokeniser_files_that_changed_later_are_refused(
    prepared_llama: Path, tmp_path: Path
) -> None:
    folder = copied(prepared_llama, tmp_path, "tokenizer.model")
    kind = tokens.resolve_type(None, model_path=folder)
    assert tokens.load_tokenizer(folder, kind).eot_id == 700
    path = folder / "tokenizer.json"
    value = read(folder, path.name)
    path.write_text(json.dumps(value | {"added_tokens": value["added_tokens"][:-1]}))
    with pytest.raises(InputError, match="is not the one token 700"):
        tokens.load_tokenizer(folder, kind)
    value["model"]["merges"].reverse()
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="not the one that openchat.json names"):
        tokens.load_tokenizer(folder, kind)


@pytest.mark.parametrize(("dtype", "expected"), [("fp32", torch.float32), ("fp16", torch.float16)])
def test_another_dtype(llama: Path, tmp_path: Path, dtype: Any, expected: torch.dtype) -> None:
    prepare(PrepareSettings(llama, tmp_path / "out", "openchat", dtype=dtype))
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {expected}
    assert read(tmp_path / "out")["dtype"] == str(expected).removeprefix("torch.")


def test_the_mean_is_taken_before_rounding(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", dtype=torch.float32)
    prepare(PrepareSettings(base, tmp_path / "out", "openchat", dtype="bf16"))
    mean = weights(base)[INPUT].mean(0)
    assert torch.equal(weights(tmp_path / "out")[INPUT][700], mean.bfloat16())


# --- other shapes of base ---


def test_shards_and_old_buffers(llama: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(llama, base, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = weights(llama) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    names = sorted(tensors)
    where = {name: f"model-{1 + (i % 2):05}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in names if where[name] == file}, base / file)
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    prepare(PrepareSettings(base, tmp_path / "out", "openchat"))
    assert weights(tmp_path / "out").keys() == weights(llama).keys()
    (base / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"model-00002-of-00002.safetensors: this shard is missing"
    ):
        prepare(PrepareSettings(base, tmp_path / "out2", "openchat"))


def test_bin_files_of_2023(llama: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(llama, base, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(weights(llama), base / "pytorch_model.bin")
    prepare(PrepareSettings(base, tmp_path / "out", "openchat"))
    assert not list((tmp_path / "out").glob("*.bin"))
    assert torch.equal(weights(tmp_path / "out")[INPUT][:700], weights(llama)[INPUT])


class Evil:
    def __reduce__(self) -> tuple[Any, Any]:
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_runs_no_code(llama: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "base"
    shutil.copytree(llama, base, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save({"model.norm.weight": Evil()}, base / "pytorch_model.bin")
    with pytest.raises(InputError, match="more than plain tensors"):
        prepare(PrepareSettings(base, tmp_path / "out", "openchat"))
    assert not (tmp_path / "was-run").exists()


def test_spare_rows_are_used_and_not_averaged(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "base", vocab_size=704)
    summary = prepare(PrepareSettings(base, tmp_path / "out", "openchat"))
    assert (summary.eot_id, summary.new_rows, summary.vocab_size) == (700, 0, 704)
    old, new = weights(base)[INPUT], weights(tmp_path / "out")[INPUT]
    assert torch.equal(new[700], old[:700].float().mean(0).bfloat16())
    assert torch.equal(new[701:], old[701:])


@shared.needs_data
@pytest.mark.parametrize("name", ["stories260K-hf", "stories3M-hf"])
@pytest.mark.parametrize("kind", ["openchat", "openchat_8192"])
def test_real_checkpoints(tmp_path: Path, name: str, kind: str) -> None:
    base = shared.CHECKPOINTS / name
    summary = prepare(PrepareSettings(base, tmp_path / "out", kind))
    old, new = weights(base)[INPUT], weights(tmp_path / "out")[INPUT]
    assert summary.eot_id == len(old)
    assert torch.equal(new[:-1], old)
    assert torch.equal(new[-1], old.mean(0))


# --- refusals ---


def refused(base: Path, tmp_path: Path, kind: str = "openchat", **options: Any) -> OpenChatError:
    out = tmp_path / "refused"
    with pytest.raises(OpenChatError) as caught:
        prepare(PrepareSettings(base, out, kind, **options))
    assert "\n" not in caught.value.message
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))  # nothing half-made stays
    return caught.value


def copied(base: Path, tmp_path: Path, *without: str) -> Path:
    out = tmp_path / "copy"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(base, out, ignore=shutil.ignore_patterns(*without))
    return out


def test_a_base_that_does_not_fit_is_refused(llama: Path, starcoder: Path, tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none", tmp_path).message
    wrong = refused(starcoder, tmp_path)
    assert "is a gpt_bigcode model, openchat needs llama" in wrong.message
    assert "no model type 'openchatt'" in refused(llama, tmp_path, "openchatt").message
    assert "no config.json" in refused(copied(llama, tmp_path, "config.json"), tmp_path).message
    assert "no tokenizer" in refused(copied(llama, tmp_path, "tokenizer.model"), tmp_path).message
    assert "no weights" in refused(copied(llama, tmp_path, "*.safetensors"), tmp_path).message


def test_damaged_weights_are_refused(llama: Path, tmp_path: Path) -> None:
    base = copied(llama, tmp_path)
    path = base / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert "not a whole safetensors file" in refused(base, tmp_path).message
    tensors = weights(llama)
    norm = tensors.pop("model.norm.weight")
    save_file(tensors, path)
    assert "the weights lack model.norm.weight" in refused(base, tmp_path).message
    save_file({**tensors, "model.norm.weight": norm, "model.extra": norm.clone()}, path)
    assert "the weights hold model.extra" in refused(base, tmp_path).message
    save_file({**tensors, "model.norm.weight": norm[:-1]}, path)
    assert "model.norm.weight is [31], config.json says [32]" in refused(base, tmp_path).message


def test_quantised_weights_are_refused(llama: Path, tmp_path: Path) -> None:
    base = copied(llama, tmp_path)
    config = read(base) | {"quantization_config": {"quant_method": "gptq"}}
    (base / "config.json").write_text(json.dumps(config))
    assert "quantised" in refused(base, tmp_path).message


def test_a_base_with_the_token_is_refused_unless_told(prepared_llama: Path, tmp_path: Path) -> None:
    assert "is prepared already" in refused(prepared_llama, tmp_path).message
    base = copied(prepared_llama, tmp_path, "openchat.json")
    error = refused(base, tmp_path)
    assert "already has <|end_of_turn|> (id 700)" in error.message
    assert "--reuse-eot" in (error.hint or "")
    summary = prepare(PrepareSettings(base, tmp_path / "out", "openchat", reuse_eot=True))
    assert (summary.eot_id, summary.new_rows) == (700, 0)
    for name, tensor in weights(prepared_llama).items():
        assert torch.equal(weights(tmp_path / "out")[name], tensor)


def test_a_token_without_an_embedding_is_refused(llama: Path, tmp_path: Path) -> None:
    base = copied(llama, tmp_path)
    (base / "added_tokens.json").write_text(json.dumps({"<|end_of_turn|>": 700}))
    error = refused(base, tmp_path, reuse_eot=True)
    assert "the embedding has 700 rows" in error.message


def test_a_tokeniser_of_other_weights_is_refused(tmp_path: Path) -> None:
    error = refused(make_llama(tmp_path / "base", vocab_size=650), tmp_path)
    assert "the tokeniser has 701 tokens, but the embedding has 650 rows" in error.message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": "32"}, "expected int, got str"),
        ({"num_attention_heads": 7}, "not a multiple of the number of attention heads"),
        ({"rope_parameters": "x"}, "rope_parameters"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(
    llama: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    base = copied(llama, tmp_path)
    (base / "config.json").write_text(json.dumps(read(base) | change))
    error = refused(base, tmp_path)
    assert "no model can be built" in error.message and reason in error.message


def test_outputs_are_not_overwritten_unasked(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = PrepareSettings(llama, out, "openchat")
    prepare(settings)
    with pytest.raises(UsageError, match="already holds a model"):
        prepare(settings)
    (out / "train.log.jsonl").write_text("{}\n")
    prepare(dataclasses.replace(settings, force=True, dtype="fp32"))
    assert (out / "train.log.jsonl").exists()
    with safe_open(out / "model.safetensors", framework="pt") as file:
        assert file.get_tensor(INPUT).dtype == torch.float32
    with pytest.raises(UsageError, match="is the base itself"):
        prepare(PrepareSettings(llama, llama, "openchat", force=True))
    with pytest.raises(UsageError, match="that openchat did not write"):
        prepare(PrepareSettings(llama, copied(llama, tmp_path), "openchat", force=True))


def test_a_type_of_the_users_own_travels_with_the_model(llama: Path, tmp_path: Path) -> None:
    file = tmp_path / "types.toml"
    file.write_text(
        '[mine]\nextends = "openchat"\ncontext = 96\nbos = ""\n'
        '[mine.roles]\nuser = "Q: "\nassistant = "A: "\nsystem = "S: "\n'
    )
    prepare(PrepareSettings(llama, tmp_path / "out", "mine", model_file=file))
    kind = tokens.resolve_type(None, model_path=tmp_path / "out")
    assert kind == registry.get("mine", file)
    assert tokens.load_tokenizer(tmp_path / "out", kind).bos_id is None
