"""`openchat demo`: refusals and interruptions, and (slow) the whole road with its figures."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.cli import demo_runner, demo_steps
from tests.conftest import RunCli

FOLDERS = {"pages", "data", "base", "prepared", "model", "eval"}


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.parent / "summary.json").read_text("utf-8"))
    return found


# --- fast ---


def test_dry_run_lists_the_commands(openchat: RunCli, tmp_path: Path) -> None:
    ended = openchat("demo", "my demo", "--dry-run", "--json")
    assert ended.returncode == 0
    commands = json.loads(ended.stdout)["counts"]["commands"]
    assert commands[0] == "openchat data clean 'my demo/pages' 'my demo/data'"
    names = [" ".join(shlex.split(line.split("| ")[-1])[:3]) for line in commands]
    for name in ("data filter", "data convert", "eval answer", "eval judge", "eval report"):
        assert f"openchat {name}" in names
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(openchat: RunCli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    ended = openchat("demo", tmp_path)
    assert ended.returncode == 2
    assert "holds files that no demo made" in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "mine.txt"]


def test_a_failing_step_ends_it_with_its_words_and_exit_code(
    openchat: RunCli, tmp_path: Path
) -> None:
    ended = openchat("demo", "d", "--json", env={"OPENCHAT_DATA_CLEAN_WORKERS": "many"})
    assert ended.returncode == 2
    assert "workers" in ended.stderr
    assert "the demo stopped: 'data clean' ended with exit code 2" in ended.stderr
    assert "by itself it is: openchat data clean d/pages d/data" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout)["status"] == "failed"
    assert len(list((tmp_path / "d" / "pages").iterdir())) == 84


def test_an_interruption_ends_the_step_and_leaves_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    for _ in range(2):  # the second finds what the first has left
        process = _started(folder)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("$ openchat model tiny"):
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)  # to it alone: the step must be ended by it
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert not _members(process.pid)
        assert json.loads((folder / "demo.json").read_text())["status"] == "unfinished"
        assert not list(folder.rglob("*.part"))
        assert len((folder / "data" / "filtered.jsonl").read_text("utf-8").splitlines()) == 67


def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    step = demo_steps.serving(tmp_path / "nothing", 0)
    with (
        pytest.raises(demo_runner.StepError, match="'serve' ended with exit code"),
        demo_runner.serve(step, log=tmp_path / "serve.log"),
    ):
        pass
    assert "error: " in capfd.readouterr().err


def _started(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "openchat_cli", "demo", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _members(session: int) -> list[int]:
    """The living processes of a session that a test has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = path.read_text().rsplit(")", 1)[1].split()[:4]
        except (OSError, ValueError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


# --- slow: the whole road ---


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_trained_model_is_ahead_on_seen_and_on_held_out_questions(demo_folder: Path) -> None:
    counts = summary_of(demo_folder)["counts"]
    assert counts["score"]["n"] == 48
    for figure in (counts["score"], *counts["categories"].values()):
        assert figure["interval"][0] > 100
    assert set(counts["categories"]) == {"seen", "held out"}
    report = json.loads((demo_folder / "eval" / "report.json").read_text("utf-8"))
    difference = report["comparisons"][0]["overall"]["difference"]
    assert difference["interval"]["low"] > 0
    assert counts["ended_percent"] >= 90


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_eval_loss_falls(demo_folder: Path) -> None:
    counts = summary_of(demo_folder)["counts"]
    assert counts["eval_loss_last"] < counts["eval_loss_first"] / 2
    log = (demo_folder / "model" / "train.log.jsonl").read_text("utf-8").splitlines()
    assert sum(json.loads(line)["kind"] == "eval" for line in log) >= 3


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_everything_is_where_it_says(demo_folder: Path) -> None:
    summary = summary_of(demo_folder)
    assert {path.name for path in demo_folder.iterdir()} == FOLDERS | {"demo.json"}
    assert all(Path(path).exists() for path in summary["outputs"])
    assert summary["counts"]["peak_memory_mib"] < 3072
    lines = summary["counts"]["commands"]
    assert [" ".join(shlex.split(line)) for line in lines if "serve" in line]
    assert json.loads((demo_folder / "demo.json").read_text("utf-8"))["status"] == "ok"
    page = (demo_folder / "eval" / "report.html").read_text("utf-8")
    assert "held out" in page


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_server_ends_with_the_demo_whatever_happens(demo_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    step = demo_steps.serving(demo_folder, port)
    with (
        pytest.raises(KeyboardInterrupt),
        demo_runner.serve(step, log=tmp_path / "serve.log") as ready,
    ):
        assert ready["url"].endswith(f":{port}/v1")
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        raise KeyboardInterrupt
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0
