"""What is refused before anything heavy begins, each with one clear line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_cli.core.errors import InputError, MissingExtraError, OpenChatError, UsageError
from openchat_cli.training import schedule
from openchat_cli.training.launch import train
from openchat_cli.training.resolve import resolve
from openchat_cli.training.settings import Ranks, TrainSettings
from tests.training import data


@pytest.fixture
def settings(model: Path, dataset: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(model, dataset, tmp_path / "out")


def refused(settings: TrainSettings) -> OpenChatError:
    with pytest.raises(OpenChatError) as caught:
        train(settings)
    assert not settings.save_path.exists()
    return caught.value


def test_defaults_come_from_the_recipe(settings):
    run = resolve(settings, world_size=2).run
    assert (run.batch_size, run.learning_rate, run.epochs, run.dtype) == (128, 2e-5, 5, "bf16")
    assert (run.zero_stage, run.gradient_clipping, run.gradient_checkpointing) == (2, 1.0, True)
    assert run.max_tokens == 8192


def test_the_run_survives_json(settings):
    run = resolve(settings, world_size=1).run
    assert type(run).from_row(json.loads(json.dumps(run.to_row()))) == run


def test_the_plan_counts(settings, dataset):
    summary = resolve(replace(settings, batch_size=8, epochs=3), world_size=1).summary()
    made = data.records(22)
    assert summary.conversations == 22 and summary.eval_conversations == 4
    assert summary.tokens == sum(len(ids) for ids, _ in made)
    assert summary.supervised_tokens == sum(sum(mask) for _, mask in made)
    assert summary.steps == 9 and summary.warmup_steps == 1


@pytest.mark.parametrize(
    ("content", "where", "what"),
    [
        ("[[[1, 2], [false, true]], [[1, 300], [false, true]]]", "record 2", "300 is outside"),
        ("[[[1, 2], [false, true]], [[1, -1], [false, true]]]", "record 2", "-1 is outside"),
        ("[[[1, 2], [false, true, true]]]", "record 1", "one length"),
        ("[[[1, 2.5], [false, true]]]", "record 1", "integers"),
        ('[[[1, "a"], [false, true]]]', "record 1", "integers"),
        ("[[[1, 2], [0, 7]]]", "record 1", "true or false"),
        ("[[[1, 2]]]", "record 1", "[ids, mask]"),
        ("[[[1, [2]], [false, true]]]", "record 1", "flat"),
        ("[[[], []]]", "record 1", "one length"),
        ("[[[1, 2], [false, true]], [[1, 2], [fal", "after record 1", "cut off"),
        ("[[[1, 2], [false, true]]", "after record 1", "cut off"),
        ("[]", "openchat.train.json", "no conversations"),
        ("", "openchat.train.json", "JSON list"),
        ('{"a": 1}', "openchat.train.json", "JSON list"),
        ("[[[1, 2], [false, false]]]", "openchat.train.json", "no token is supervised"),
    ],
)
def test_a_bad_dataset_is_named_with_its_record(settings, tmp_path, content, where, what):
    folder = data.write_dataset(tmp_path / "data", data.records(3))
    (folder / "openchat.train.json").write_text(content, "utf-8")
    error = refused(replace(settings, data_path=folder))
    assert isinstance(error, InputError)
    assert where in error.message and what in error.message


def test_a_dataset_that_is_not_there(settings, tmp_path):
    assert "no dataset" in refused(replace(settings, data_path=settings.model_path)).message
    error = refused(replace(settings, data_path=tmp_path / "nowhere"))
    assert "nowhere: no such folder" in error.message and "data convert" in str(error.hint)
    rows = tmp_path / "conversations.jsonl"
    rows.write_text("{}\n")
    error = refused(replace(settings, data_path=rows))
    assert f"{rows}: not a dataset" in error.message and "data convert" in str(error.hint)


@pytest.mark.parametrize("context", ["abc", None, -5, 1.5, float("inf")])
def test_a_damaged_manifest_is_named(settings, tmp_path, context):
    folder = data.write_dataset(tmp_path / "data", data.records(3))
    file = folder / "openchat.dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"context": context}), "utf-8")
    error = refused(replace(settings, data_path=folder))
    assert isinstance(error, InputError) and f"{file}: 'context'" in error.message


def test_a_prefix_names_a_dataset_too(settings, dataset):
    for path in (dataset / "openchat", dataset / "openchat.train.json"):
        assert resolve(replace(settings, data_path=path), world_size=1).train.lengths.sum() > 0


def test_a_dataset_of_another_type_is_refused_with_both_names(settings, tmp_path):
    folder = data.write_dataset(tmp_path / "data", data.records(3), kind_name="openchat_8192")
    error = refused(replace(settings, data_path=folder))
    assert isinstance(error, UsageError)
    assert "openchat_8192" in error.message and "model type openchat" in error.message


def test_a_dataset_of_another_tokeniser_is_refused_with_both_names(settings, tmp_path):
    folder = data.write_dataset(tmp_path / "data", data.records(3), tokenizer_hash="other")
    error = refused(replace(settings, data_path=folder))
    assert isinstance(error, UsageError)
    assert "other" in error.message and data.TOKENIZER in error.message


def test_a_conversation_longer_than_the_model_is_refused(settings, tmp_path):
    long = [[1] * (data.CONTEXT + 1), [True] * (data.CONTEXT + 1)]
    folder = data.write_dataset(tmp_path / "data", [*data.records(3), long])
    assert "record 4 has 513 tokens" in refused(replace(settings, data_path=folder)).message


def test_an_unprepared_model_is_refused(settings, tmp_path):
    error = refused(replace(settings, model_path=tmp_path))
    assert isinstance(error, InputError) and "openchat.json" in error.message


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"epochs": -1},
        {"zero_stage": 4},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"max_tokens": 10},
        {"loss_scale": "reference"},
        {"model_type": "openchut"},
    ],
)
def test_settings_that_cannot_work(settings, changes):
    assert isinstance(refused(replace(settings, **changes)), UsageError)


def test_an_exported_model_is_not_overwritten_unasked(settings):
    settings.save_path.mkdir()
    (settings.save_path / "config.json").write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="a model is there already"):
        train(settings)
    with pytest.raises(UsageError, match="must not be the model"):
        train(replace(settings, save_path=settings.model_path, force=True))


def test_a_missing_extra_is_named(settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = refused(settings)
    assert isinstance(error, MissingExtraError) and "openchat-cli[train]" in str(error.hint)


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path


def test_the_deepspeed_file_fills_what_flags_leave_open(settings, tmp_path):
    config = {
        "train_batch_size": 16,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 0.3,
        "bf16": {"enabled": False},
        "zero_optimization": {"stage": 1, "reduce_bucket_size": 1000},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "betas": [0.9, 0.95]}},
    }
    path = write(tmp_path / "ds.json", config)
    resolved = resolve(replace(settings, deepspeed_config=path), world_size=1)
    run = resolved.run
    assert (run.batch_size, run.gradient_clipping, run.dtype) == (16, 0.3, "fp32")
    assert (run.zero_stage, run.learning_rate) == (1, 1e-4)
    assert "train_micro_batch_size_per_gpu" not in run.deepspeed
    assert run.deepspeed["zero_optimization"]["reduce_bucket_size"] == 1000
    assert ["gradient_accumulation_steps" in line for line in resolved.warnings] == [True]


@pytest.mark.parametrize(
    ("config", "changes", "names"),
    [
        ({"zero_optimization": {"stage": 3}}, {"zero_stage": 2}, ("zero stage 3", "--zero-stage")),
        ({"bf16": {"enabled": True}}, {"dtype": "fp32"}, ("bf16", "--dtype")),
        ({"train_batch_size": 64}, {"batch_size": 8}, ("64", "--batch-size")),
        ({"optimizer": {"params": {"lr": 1e-3}}}, {"learning_rate": 1e-4}, ("--learning-rate",)),
        ({"scheduler": {"type": "WarmupLR"}}, {"schedule": "linear"}, ("--schedule",)),
        ({"fp16": {"enabled": True}}, {}, ("fp16",)),
    ],
)
def test_conflicts_with_the_deepspeed_file_are_named(settings, tmp_path, config, changes, names):
    path = write(tmp_path / "ds.json", config)
    error = refused(replace(settings, deepspeed_config=path, **changes))
    assert isinstance(error, UsageError)
    assert all(name in error.message for name in names)


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"zero_optimization": 3}, "zero_optimization"),
        ({"zero_optimization": {"stage": 7}}, "zero_optimization.stage"),
        ({"optimizer": []}, "optimizer"),
        ({"optimizer": [1]}, "optimizer"),
        ({"optimizer": {"params": {"lr": "x"}}}, "optimizer.params.lr"),
        ({"bf16": True}, "bf16"),
        ({"train_batch_size": 0}, "train_batch_size"),
        ({"gradient_clipping": -1}, "gradient_clipping"),
    ],
)
def test_a_deepspeed_file_that_makes_no_sense_is_named(settings, tmp_path, config, place):
    path = write(tmp_path / "ds.json", config)
    error = refused(replace(settings, deepspeed_config=path))
    assert isinstance(error, UsageError) and f"{path}: '{place}' must be" in error.message


def test_the_schedules_are_those_of_transformers():
    import torch
    from transformers.optimization import get_scheduler

    for name in ("cosine", "linear", "constant_with_warmup"):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = get_scheduler(name, optimizer, num_warmup_steps=4, num_training_steps=30)
        for step in range(30):
            ours = schedule.factor(name.removesuffix("_with_warmup"), step, total=30, warmup=4)
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
            optimizer.step()
            theirs.step()


def test_ranks_are_read_from_what_launchers_set():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert Ranks.of_environment(torchrun) == Ranks(3, 4, 1, 2)
    slurm = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}
    assert Ranks.of_environment(slurm) is None  # a shell inside an allocation is no rank
    assert Ranks.of_environment(slurm | {"MASTER_ADDR": "node1"}) == Ranks(5, 8, 1, 1)
    assert Ranks.of_environment({}) is None
