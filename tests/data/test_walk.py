"""The page that walks from an export to a dataset: every command on it runs, as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, RunCli
from tests.data.test_export import PICTURE, line, slug
from tests.test_readme import blocks

PAGE = ROOT / "docs" / "chatgpt-export.md"


def chats() -> list[dict[str, Any]]:
    """What the page's figures are of: nine good conversations of three models, and five others."""
    models = ["gpt-4o"] * 6 + ["text-davinci-002-render-sha"] * 2 + ["o1"]
    asked = [
        line(("user", f"What is {n} + {n}?"), ("assistant", f"It is **{2 * n}**.", slug(model)))
        for n, model in enumerate(models)
    ]
    canvas = ("assistant", "{}", {"recipient": "canmore.create_textdoc"})
    others = [
        line(("user", PICTURE), ("assistant", "a cat", slug("gpt-4o"))),
        line(("user", "Write a page"), canvas, ("assistant", "There.", slug("gpt-4o"))),
        line(("user", "Hello?")),
        line(("user", "Who made you?"), ("assistant", "OpenAI did.", slug("gpt-4o"))),
        asked[0],
    ]
    return [{**chat, "conversation_id": f"c{n}"} for n, chat in enumerate(asked + others)]


def export(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps(chats()))
        archive.writestr("chat.html", "<html><body>the same again</body></html>")
        for name in ("user", "message_feedback", "shared_conversations"):
            archive.writestr(f"{name}.json", "[]")
    return path


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_walk_runs(openchat: RunCli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    export(tmp_path / "export.zip")
    assert openchat("data", "clean", "export.zip", "corpus").returncode == 0
    made = openchat("model", "tiny", "base", "--corpus", "corpus/conversations.jsonl")
    assert made.returncode == 0, made.stderr
    script = ["set -euo pipefail", *blocks(PAGE.read_text("utf-8"))]
    (tmp_path / "bin").mkdir()
    for name, command in (
        ("openchat", f"{sys.executable} -m openchat_cli"),
        ("python", sys.executable),
    ):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    text = PAGE.read_text("utf-8")
    shown = next(row for row in text.splitlines() if row.startswith("{'gpt-4o'"))
    assert shown in ended.stdout
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    for reason, count in [*report["reasons"].items(), ("kept", report["kept"])]:
        assert f"│ {reason:<12} │ {count:<5} │" in text
    assert (report["read"], report["ignored_files"]) == (14, 4)
    rows = (tmp_path / "out" / "filtered.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 6
    once = (tmp_path / "at-once" / "openchat.train.json").read_bytes()
    assert once == (tmp_path / "out" / "openchat.train.json").read_bytes()


def test_a_model_that_is_not_there_empties_nothing(openchat: RunCli, tmp_path: Path) -> None:
    export(tmp_path / "export.zip")
    assert openchat("data", "clean", "export.zip", "out", "--quiet").returncode == 0
    ended = openchat("data", "filter", "out", "out", "--model", "GPT-4", "--quiet")
    assert ended.returncode == 1
    assert "there are gpt-4o (6), Default (GPT-3.5) (2), o1 (1)" in ended.stderr
    assert "--model any" in ended.stderr
    assert not (tmp_path / "out" / "filtered.jsonl").exists()
