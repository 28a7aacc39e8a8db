"""Parquet files with conversations."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.errors import InputError
from tests.conftest import RunCli
from tests.data.cleaning import MESSAGES, cleaned

pytest.importorskip("pyarrow")


def write(path: Path, rows: list[dict[str, Any]], group: int = 10) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_columns_of_messages_and_conversations(tmp_path: Path) -> None:
    tables: dict[str, list[dict[str, Any]]] = {
        "messages": MESSAGES,
        "conversation": [{**message, "toxic": False} for message in MESSAGES],
        "conversations": [
            {"from": "human", "value": "hi", "weight": None},
            {"from": "gpt", "value": "**hello**", "weight": 1.0},
        ],
    }
    for column, turns in tables.items():
        row = {"id": "a", "model": "gpt-4", "language": "en", "other": b"\xff", column: turns}
        (kept,), dropped = cleaned(write(tmp_path / f"{column}.parquet", [row]))
        assert dropped == []
        assert (kept["id"], kept["model"], kept["language"]) == ("a", "gpt-4", "en")
        assert [message["content"] for message in kept["messages"]] == ["hi", "**hello**"]


def test_other_columns(tmp_path: Path) -> None:
    (kept,), _ = cleaned(
        write(tmp_path / "a.parquet", [{"instruction": "hi", "input": None, "output": "x"}])
    )
    assert kept["messages"][1]["content"] == "x"
    text = {"messages": json.dumps(MESSAGES), "language": "English"}
    (kept,), _ = cleaned(write(tmp_path / "b.parquet", [text]))
    assert (kept["messages"], kept["language"]) == (MESSAGES, None)


def test_rows_in_their_order_with_their_places(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "messages": [{"role": "user", "content": str(n)}, MESSAGES[1]]}
        for n in range(205)
    ]
    rows[100]["messages"] = []
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.parquet", rows)
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.write(folder / "a.parquet", "inner.parquet")
    kept, dropped = cleaned(folder)
    assert [row["id"] for row in kept] == [row["id"] for row in rows if row["messages"]]
    assert (dropped[0]["where"], dropped[0]["reason"]) == ("row 101", "too_short")
    assert len(dropped) == 206 and dropped[1]["source"] == "b.zip/inner.parquet"


def test_files_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a table without conversations"):
        cleaned(write(tmp_path / "a.parquet", [{"x": 1}]))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="not a whole Parquet file"):
        cleaned(tmp_path / "a.parquet")


def test_without_the_extra(openchat: RunCli, tmp_path: Path) -> None:
    """A site folder that hides pyarrow stands for an install without it."""
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.parquet", [{"messages": MESSAGES}])
    (folder / "b.json").write_text(json.dumps({"messages": MESSAGES}), "utf-8")
    code = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'pyarrow' else "
        "found(name, *more)\n"
    )
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(code, "utf-8")
    path = f"{tmp_path / 'hidden'}{os.pathsep}{os.environ['PYTHONPATH']}"
    alone = openchat("data", "clean", "in/a.parquet", "out", env={"PYTHONPATH": path})
    assert (alone.returncode, "openchat-cli[data]" in alone.stderr) == (2, True), alone.stderr
    assert "Traceback" not in alone.stderr
    among = openchat("data", "clean", "in", "out", env={"PYTHONPATH": path})
    assert among.returncode == 0, among.stderr
    (dropped,) = (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()
    assert "'data' extra" in json.loads(dropped)["detail"]
