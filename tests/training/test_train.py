"""`openchat train` as a process: real DeepSpeed on CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training import data

STEPS = 9  # ceil(3 epochs · 22 conversations / 8)


def command(model: Path, dataset: Path, out: Path, *options: object) -> list[str]:
    values = {
        "--model-path": model,
        "--data-path": dataset,
        "--save-path": out,
        "--device": "cpu",
        "--dtype": "fp32",
        "--epochs": 3,
        "--batch-size": 8,
        "--learning-rate": 2e-3,
        "--gradient-clipping": 0.5,
        "--max-tokens": 256,
    }
    given = [str(option) for option in options]
    for name, value in values.items():
        if name not in given:
            given += [name, str(value)]
    return ["train", *given]


def log(out: Path, kind: str = "step") -> list[dict]:
    lines = (out / "train.log.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def column(out: Path, name: str, kind: str = "step") -> list[float]:
    return [row[name] for row in log(out, kind)]


@pytest.fixture(scope="session")
def trained(model, dataset, tmp_path_factory):
    """The run that others are compared with: one rank, ZeRO-2."""
    out = tmp_path_factory.mktemp("trained") / "model"
    ended = subprocess.run(
        [sys.executable, "-m", "openchat_cli", *command(model, dataset, out, "--json")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return out, ended


def test_a_run_from_end_to_end(trained, dataset):
    out, ended = trained
    summary = json.loads(ended.stdout)
    assert summary["status"] == "ok" and summary["outputs"] == [str(out)]
    assert summary["counts"]["steps"] == STEPS
    assert "next: openchat serve" in ended.stderr and "loss" in ended.stderr
    steps, evals = log(out), log(out, "eval")
    assert [row["step"] for row in steps] == list(range(1, STEPS + 1))
    assert [row["conversations"] for row in steps] == [8] * 8 + [2]
    assert sum(row["tokens"] for row in steps) == 3 * sum(len(ids) for ids, _ in data.records(22))
    assert steps[0]["lr"] == 0.0 and steps[1]["lr"] == pytest.approx(2e-3)
    assert all(row["grad_norm"] > 0 for row in steps)
    assert [row["step"] for row in evals] == [0, 3, 6, 9]
    assert evals[-1]["loss"] < evals[0]["loss"] - 0.2
    assert summary["counts"]["eval_loss_last"] == pytest.approx(evals[-1]["loss"], abs=1e-6)


def test_the_exported_folder_holds_the_trained_weights(trained, model, dataset):
    """Loaded by plain transformers it gives the eval loss that the log says."""
    import torch
    from transformers import AutoModelForCausalLM

    out, _ = trained
    loaded = AutoModelForCausalLM.from_pretrained(out)
    total = count = 0.0
    for ids, mask in json.loads((dataset / "openchat.eval.json").read_text("utf-8")):
        with torch.no_grad():
            logits = loaded(torch.tensor([ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
        wanted = torch.tensor(mask[1:])
        total, count = total + losses[wanted].sum().item(), count + wanted.sum().item()
    assert total / count == pytest.approx(log(out, "eval")[-1]["loss"], abs=1e-5)
    assert (out / "openchat.json").read_bytes() == (model / "openchat.json").read_bytes()


def test_the_first_step_is_plain_torch(trained, dataset):
    """Loss and gradient norm of the first step, from the same conversations one by one."""
    import torch

    out, _ = trained
    model = data.llama()
    from openchat_cli.training.plan import permutation

    total = supervised = 0.0
    for index in permutation(22, 42, 0)[:8]:
        ids, mask = data.records(22)[index]
        labels = torch.where(torch.tensor(mask), torch.tensor(ids), torch.tensor(-100))
        logits = model(torch.tensor([ids])).logits[0, :-1]
        total += torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum")
        supervised += sum(mask[1:])
    (total / supervised).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    first = log(out)[0]
    assert first["loss"] == pytest.approx((total / supervised).item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_dry_run_shows_the_plan_and_makes_nothing(openchat, model, dataset, tmp_path):
    out = tmp_path / "out"
    ended = openchat(*command(model, dataset, out, "--dry-run", "--json"))
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert counts["plan"]["steps"] == STEPS
    assert counts["plan"]["useful_share"] == 1.0
    assert counts["settings"]["learning_rate"] == 2e-3
    assert not out.exists()
    shown = openchat(*command(model, dataset, out, "--dry-run"))
    assert "useful_share" in shown.stdout and "batch_size" in shown.stdout


def test_refusals_are_one_line(openchat, trained, model, dataset, tmp_path):
    out, _ = trained
    ended = openchat(*command(model, dataset, out))
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(f"error: {out / 'config.json'}: a model is there already\n")
    ended = openchat(*command(model, dataset, out, "--resume", "--seed", 7))
    assert ended.returncode == 2
    assert "was made with seed 42, not 7" in ended.stderr
    ended = openchat(*command(tmp_path / "nowhere", dataset, tmp_path / "x"))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr


def test_a_rank_that_fails_gives_its_reason(openchat, model, dataset, tmp_path):
    """Weights that don't belong: found by the rank, told by the launcher."""
    broken = tmp_path / "model"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text("utf-8"))
    config["hidden_size"] = 64
    (broken / "config.json").write_text(json.dumps(config), "utf-8")
    ended = openchat(*command(broken, dataset, tmp_path / "out"))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(("error:", "hint:"))


# --- slow: more processes ---


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "openchat_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_steps(out: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if (out / "train.log.jsonl").exists() and len(log(out)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{out}: no {count} steps in time")


def ranks_of(out: Path) -> list[int]:
    """Processes whose output goes to this run's logs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(out / "logs") in os.readlink(process / "fd" / "1"):  # noqa: PTH115  # str wanted
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_and_zero_stages_agree(openchat, trained, model, dataset, tmp_path, zero, ranks):
    if (ranks, zero) == (1, 2):
        pytest.skip("that is the run compared with")
    out = tmp_path / "out"
    options = ("--zero-stage", zero, "--num-gpus", ranks)
    ended = openchat(*command(model, dataset, out, *options))
    assert ended.returncode == 0, ended.stderr
    for name in ("loss", "grad_norm"):
        assert column(out, name) == pytest.approx(column(trained[0], name), abs=1e-5)
    found = column(out, "loss", "eval")
    assert found == pytest.approx(column(trained[0], "loss", "eval"), abs=1e-5)


@pytest.mark.slow
def test_starcoder_like_models_agree_too(openchat, tmp_path):
    model = data.write_model(tmp_path / "model", "opencoder")
    dataset = data.write_dataset(tmp_path / "data", data.records(22), kind_name="opencoder")
    for name, options in (("one", ()), ("two", ("--num-gpus", 2, "--zero-stage", 3))):
        ended = openchat(*command(model, dataset, tmp_path / name, *options))
        assert ended.returncode == 0, ended.stderr
    one, two = column(tmp_path / "one", "loss"), column(tmp_path / "two", "loss")
    assert two == pytest.approx(one, abs=1e-5)
    assert one[-2] < one[0]


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_bf16_stays_near_fp32(openchat, trained, model, dataset, tmp_path, zero):
    out = tmp_path / "out"
    options = ("--dtype", "bf16", "--zero-stage", zero, "--num-gpus", 2)
    ended = openchat(*command(model, dataset, out, *options))
    assert ended.returncode == 0, ended.stderr
    assert column(out, "loss") == pytest.approx(column(trained[0], "loss"), abs=2e-3)


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(openchat, trained, model, dataset, tmp_path):
    ended = openchat(*command(model, dataset, tmp_path / "out", "--no-gradient-checkpointing"))
    assert ended.returncode == 0, ended.stderr
    assert column(tmp_path / "out", "loss") == pytest.approx(column(trained[0], "loss"), abs=1e-6)


@pytest.mark.slow
def test_length_grouping_as_the_original(openchat, model, dataset, tmp_path):
    """With its averaging; by tokens its steps are those of any number of ranks."""
    grouped = ("--batching", "length-grouped", "--micro-batch", 2)
    for name, options in (
        ("reference", ("--loss-scale", "reference")),
        ("one", ()),
        ("two", ("--num-gpus", 2)),
    ):
        ended = openchat(*command(model, dataset, tmp_path / name, *grouped, *options))
        assert ended.returncode == 0, ended.stderr
    one, two = column(tmp_path / "one", "loss"), column(tmp_path / "two", "loss")
    assert two == pytest.approx(one, abs=1e-5)
    assert column(tmp_path / "reference", "loss")[0] != pytest.approx(one[0], abs=1e-4)
    assert column(tmp_path / "reference", "micro_steps")[0] == 4


@pytest.mark.slow
def test_a_deepspeed_file_of_ones_own(openchat, trained, model, dataset, tmp_path):
    config = {
        "train_batch_size": "auto",
        "zero_optimization": {"stage": 3},
        "optimizer": {"type": "AdamW", "params": {"weight_decay": 0.0}},
    }
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(config), "utf-8")
    out = tmp_path / "out"
    ended = openchat(*command(model, dataset, out, "--deepspeed-config", path))
    assert ended.returncode == 0, ended.stderr
    assert column(out, "loss") == pytest.approx(column(trained[0], "loss"), abs=1e-5)


@pytest.mark.slow
def test_a_resumed_run_ends_as_if_never_killed(openchat, model, dataset, tmp_path):
    """kill -9 of the launcher takes the ranks with it; the rest is bit for bit the same."""
    options = ("--epochs", 12, "--save-every", 2, "--num-gpus", 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ended = openchat(*command(model, dataset, whole, *options))
    assert ended.returncode == 0, ended.stderr
    launcher = start(command(model, dataset, cut, *options, "--quiet"))
    wait_for_steps(cut, 7)
    launcher.kill()
    launcher.communicate()
    deadline = time.monotonic() + 10
    while ranks_of(cut) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ranks_of(cut) == []
    ended = openchat(*command(model, dataset, cut, *options))
    assert ended.returncode == 2 and "--resume goes on from it" in ended.stderr
    ended = openchat(*command(model, dataset, cut, *options, "--resume", "--json"))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["resumed_from"] >= 4
    for kind in ("step", "eval"):
        assert column(cut, "step", kind) == column(whole, "step", kind)
        assert column(cut, "loss", kind) == column(whole, "loss", kind)
    weights = "model.safetensors"
    assert (cut / weights).read_bytes() == (whole / weights).read_bytes()
    assert len(list((cut / "checkpoints").glob("step-*"))) == 3
    newest = max(path.name for path in (cut / "checkpoints").glob("step-*"))
    assert (cut / "checkpoints" / "latest").read_text("utf-8") == f"{newest}\n"


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job_with_the_reason(model, dataset, tmp_path):
    out = tmp_path / "out"
    launcher = start(command(model, dataset, out, "--epochs", 2000, "--num-gpus", 2, "--quiet"))
    wait_for_steps(out, 3)
    ranks = ranks_of(out)
    assert len(ranks) == 2
    began = time.monotonic()
    os.kill(ranks[1], signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=30)
    assert launcher.returncode == 1 and time.monotonic() - began < 20
    assert "was killed by SIGKILL" in stderr.splitlines()[0]
    assert ranks_of(out) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_all_ranks(model, dataset, tmp_path, number, code):
    out = tmp_path / "out"
    launcher = start(command(model, dataset, out, "--epochs", 2000, "--num-gpus", 2, "--quiet"))
    wait_for_steps(out, 3)
    half_exported = tmp_path / ".out.abc.part"  # as the chief rank leaves it if hit while it writes
    half_exported.mkdir()
    launcher.send_signal(number)
    stdout, stderr = launcher.communicate(timeout=30)
    assert launcher.returncode == code and stdout == "" and "Traceback" not in stderr
    assert ranks_of(out) == []
    assert not (out / "config.json").exists()
    assert not half_exported.exists()


@pytest.mark.slow
def test_under_torchrun_it_is_one_of_the_ranks(trained, model, dataset, tmp_path):
    out = tmp_path / "out"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = command(model, dataset, out, "--json")
    ended = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "openchat_cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["world_size"] == 2  # and nothing else on stdout
    assert column(out, "loss") == pytest.approx(column(trained[0], "loss"), abs=1e-5)


@pytest.mark.slow
def test_deepspeeds_own_launcher(trained, model, dataset, tmp_path):
    out = tmp_path / "out"
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2"]
    ended = subprocess.run(
        [*launcher, "--module", "openchat_cli", *command(model, dataset, out)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert column(out, "loss") == pytest.approx(column(trained[0], "loss"), abs=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(openchat, model, dataset, tmp_path):
    ended = openchat(*command(model, dataset, tmp_path / "out", "--learning-rate", 1e30))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "has loss nan" in ended.stderr and "its records are" in ended.stderr


@pytest.mark.slow
def test_two_runs_in_one_folder_are_refused(openchat, model, dataset, tmp_path):
    out = tmp_path / "out"
    first = start(command(model, dataset, out, "--epochs", 2000, "--quiet"))
    wait_for_steps(out, 4)
    ended = openchat(*command(model, dataset, out, "--force"))
    assert ended.returncode == 1 and "another openchat process" in ended.stderr
    first.terminate()
    first.communicate(timeout=30)
    assert list((out / "checkpoints").glob("step-*"))
