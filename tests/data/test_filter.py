"""`data filter`: one model's conversations, by its exact label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_cli.data import models
from tests.conftest import RunCli
from tests.data.test_clean import rows

LABELS = (
    "Model: GPT-4",
    "gpt-4",
    "Model: GPT-4o",
    "Model: Default (GPT-3.5)",
    None,
    "gpt-4-plugins",
)


def write(path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    lines = [
        {
            "kind": "conversation",
            "version": 1,
            "id": str(k),
            "source": "s",
            "model": label,
            "messages": messages,
        }
        for k, label in enumerate(LABELS)
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.mark.parametrize(
    ("model", "ids"),
    [
        (None, ["0", "1", "5"]),
        ("model: gpt-4", ["0", "1", "5"]),
        ("GPT-4o", ["2"]),
        ("default (gpt-3.5)", ["3"]),
        ("text-davinci-002-render-sha", ["3"]),
        ("any", ["0", "1", "2", "3", "4", "5"]),
    ],
)
def test_the_label_must_match_exactly(
    openchat: RunCli, tmp_path: Path, model: str | None, ids: list[str]
) -> None:
    write(tmp_path / "out" / "conversations.jsonl")
    option = [] if model is None else ["--model", model]
    ended = openchat("data", "filter", "out", "out", *option, "--json")
    assert ended.returncode == 0, ended.stderr
    assert [row["id"] for row in rows(tmp_path / "out" / "filtered.jsonl")] == ids
    assert json.loads(ended.stdout)["counts"]["kept"] == len(ids)
    report = json.loads((tmp_path / "out" / "filter.report.json").read_text("utf-8"))
    assert (report["read"], report["models"]["GPT-4"]) == (6, 3)


def test_no_match_names_what_is_there(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl")
    ended = openchat("data", "filter", "rows.jsonl", "out", "--model", "Claude", "--quiet")
    assert ended.returncode == 1
    assert "GPT-4 (3), GPT-4o (1), Default (GPT-3.5) (1), (none) (1)" in ended.stderr
    assert "--model any" in ended.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_pipe_and_the_wrong_file(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl")
    text = (tmp_path / "rows.jsonl").read_text("utf-8")
    ended = openchat("data", "filter", "-", "-", stdin=text)
    assert len(ended.stdout.splitlines()) == 3
    (tmp_path / "answers.jsonl").write_text('{"kind": "answer", "version": 1}\n', "utf-8")
    wrong = openchat("data", "filter", "answers.jsonl", "out")
    assert (wrong.returncode, "holds answers" in wrong.stderr) == (1, True)
    (tmp_path / "empty").mkdir()
    none = openchat("data", "filter", "empty", "out")
    assert (none.returncode, "no conversations.jsonl" in none.stderr) == (1, True)


def test_labels() -> None:
    assert models.plain(" Model: GPT-4 ") == "GPT-4"
    assert models.plain("text-davinci-002-render-paid") == "Legacy (GPT-3.5)"
    assert models.plain("gpt-4o-mini") == "gpt-4o-mini"
    assert models.credible("GPT-4", "GPT") == "GPT-4"
    assert models.credible("Write a poem", "Write a poem about x") is None
