"""`openchat model …` as a process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.model.bases import COMMAND


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [*COMMAND, "model", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


def test_list_shows_every_type_on_stdout() -> None:
    ended = run("list")
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "type",
        "openchat",
        "openchat_8192",
        "opencoder",
        "openchat_3.5",
    ]
    assert "26 GB" in lines[1]
    assert "208 GB" in lines[1]
    types = json.loads(run("list", "--json").stdout)["counts"]["types"]
    assert [kind["full_finetune_bytes"] for kind in types] == [
        *[208 * 10**9] * 2,
        248 * 10**9,
        115_840_000_000,
    ]


def test_list_takes_types_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "types.toml"
    file.write_text('[mine]\nextends = "openchat"\nparameters = 3_000_000_000\n')
    assert "mine" in run("list", "--model-file", file).stdout


def test_show_prints_the_format_and_the_recipe() -> None:
    shown = run("show", "openchat").stdout
    assert "<s>Human: …<|end_of_turn|>Assistant: …<|end_of_turn|>" in shown
    assert "learning rate           2e-05" in shown
    assert json.loads(run("show", "opencoderplus", "--json").stdout)["counts"]["bos"] is None


def test_prepare_as_a_process(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = run("prepare", llama, out, "--model-type", "openchat", "--json")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["status"] == "ok"
    assert summary["counts"]["eot_id"] == 700
    assert "RoPE extrapolates 16-fold" in ended.stderr
    assert "next: openchat data convert" in ended.stderr
    assert (out / "openchat.json").exists()


def test_errors_are_one_line_and_a_hint(llama: Path, tmp_path: Path) -> None:
    for code, wanted, arguments in (
        (
            2,
            "did you mean 'openchat'?",
            ("prepare", llama, tmp_path / "o", "--model-type", "openhat"),
        ),
        (2, "needs gpt_bigcode", ("prepare", llama, tmp_path / "o", "--model-type", "opencoder")),
        (
            1,
            "no such folder",
            ("prepare", tmp_path / "none", tmp_path / "o", "--model-type", "openchat"),
        ),
        (1, "hub", ("prepare", "nobody/nothing", tmp_path / "o", "--model-type", "openchat")),
        (2, "no model type", ("show", "x")),
    ):
        ended = run(*arguments)
        assert ended.returncode == code
        assert wanted in ended.stderr
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr.splitlines()) <= 2
        assert not ended.stdout
    assert not (tmp_path / "o").exists()
