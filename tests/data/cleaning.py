"""What most tests of sources do: clean a file or folder in process, and look at the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings

HI = [("human", "hi"), ("gpt", "**hello**")]
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "**hello**"}]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def cleaned(source: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(kept rows, dropped rows), after seeing that the report adds up."""
    out = source.parent / "out"
    clean(CleanSettings(source, out, force=True))
    kept, dropped = rows(out / "conversations.jsonl"), rows(out / "dropped.jsonl")
    report = json.loads((out / "clean.report.json").read_text("utf-8"))
    assert report["read"] == report["kept"] + sum(report["reasons"].values())
    assert (report["kept"], report["dropped"]) == (len(kept), len(dropped))
    return kept, dropped


def cleaned_value(folder: Path, value: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same for one JSON value as a file."""
    path = folder / "dump.json"
    path.write_text(json.dumps(value), "utf-8", "surrogatepass")
    return cleaned(path)


def texts(row: dict[str, Any]) -> list[str]:
    """The messages of a row."""
    return [message["content"] for message in row["messages"]]
