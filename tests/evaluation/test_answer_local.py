"""Answers of model folders through the real engine, and the road from there to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_cli.core import records
from openchat_cli.core.records import Question
from tests.conftest import RunCli
from tests.evaluation.runs import questions, rows

pytest.importorskip("torch", reason="needs the model extra")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two tiny models with random weights."""
    from tests.serving.folders import model_folder

    folder = tmp_path_factory.mktemp("models")
    model_folder(folder / "before")
    model_folder(folder / "after")
    (folder / "notes").mkdir()
    return folder


def test_from_model_folders_to_the_report(openchat: RunCli, tmp_path: Path, models: Path) -> None:
    two_turns = Question("long", "writing", ("Hello world", "again"), ("Hello.", "Again."))
    records.write(tmp_path / "q.jsonl", [*questions(4), two_turns])
    line = ["eval", "answer", "run", "--model-path", models, "--questions", "q.jsonl",
            "--max-tokens", "8", "--json"]  # fmt: skip
    ended = openchat(*line)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"] == {
        "models": 2,
        "answers": 10,
        "failed": 0,
        "reused": 0,
    }
    found = rows(tmp_path / "run" / "answers" / "after.jsonl")
    assert [len(row["turns"]) for row in found] == [1, 1, 1, 1, 2]
    assert all(row["usage"]["completion_tokens"] <= 8 * len(row["turns"]) for row in found)

    # The same command again asks nothing, also when the file is gone but the journal is not.
    before = (tmp_path / "run" / "answers" / "after.jsonl").read_bytes()
    (tmp_path / "run" / "answers" / "after.jsonl").unlink()
    ended = openchat(*line)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "answers" / "after.jsonl").read_bytes() == before
    assert "oading weights" not in ended.stderr

    ended = openchat(
        "eval", "baseline", "run", "--model-path", models / "before", "--max-tokens", "8"
    )
    assert ended.returncode == 0, ended.stderr
    ended = openchat("eval", "judge", "run", "--baseline", "before", "--judge", "reference")
    assert ended.returncode == 0, ended.stderr
    assert [p.name for p in (tmp_path / "run" / "judgments").iterdir()] == ["after_vs_before.jsonl"]
    ended = openchat("eval", "report", "run")
    assert ended.returncode == 0, ended.stderr
    assert "after" in ended.stdout
    assert "No LLM judged" in ended.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["comparisons"][0]["overall"]["n"] == 5


def test_a_prompt_that_does_not_fit(openchat: RunCli, tmp_path: Path, models: Path) -> None:
    asked = [*questions(1), Question("long", "writing", ("Hello " * 3000,))]
    records.write(tmp_path / "q.jsonl", asked)
    ended = openchat(
        "eval", "answer", "run", "--model-path", models / "after", "--questions", "q.jsonl",
        "--max-tokens", "4",
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    first, second = rows(tmp_path / "run" / "answers" / "after.jsonl")
    assert first["error"] is None
    assert "the context is 2048" in second["error"]
