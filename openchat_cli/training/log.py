"""`train.log.jsonl`: one row a step and one an evaluation, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.jsonl import Journal

FILE_NAME = "train.log.jsonl"


class TrainLog:
    """The log of a run; a row is on the disk when `add` returns.

    On opening, rows past `steps_done` are cut: they are of steps that a resumed run does again.
    Raises OpenChatError if another process writes here.
    """

    def __init__(self, folder: Path, steps_done: int | None) -> None:
        """`steps_done` None begins a new log."""
        self.path = folder / FILE_NAME
        keep = -1 if steps_done is None else steps_done
        with Journal(self.path, key="step"):
            rows = [row for _, row in jsonl.read_rows(self.path)]
            jsonl.write_rows(self.path, (row for row in rows if row["step"] <= keep))
        self._journal = Journal(self.path, key="step")

    def add(self, kind: str, row: dict[str, Any]) -> None:
        """Append one row."""
        self._journal.append({"kind": kind, "version": 1, **row})

    def close(self) -> None:
        """Give the file back."""
        self._journal.close()


def check_free(folder: Path) -> None:
    """Refuse a folder in which another process trains."""
    with Journal(folder / FILE_NAME, key="step"):
        return


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluations so far, oldest first."""
    path = folder / FILE_NAME
    return [row for _, row in jsonl.read_rows(path) if row["kind"] == "eval"]
