"""Python files that a model folder brings along and that transformers would run."""

from __future__ import annotations

from pathlib import Path

from openchat_cli.core import jsonl
from openchat_cli.core.errors import UsageError
from openchat_cli.core.progress import SILENT, Progress


def check(folder: Path, *, trusted: bool, progress: Progress = SILENT) -> None:
    """Refuse a folder whose config.json points to code, unless that is trusted; then warn.

    Raises UsageError naming the option.
    """
    pointers = _pointers(folder)
    if not pointers:
        return
    code = _named(pointers)
    if not trusted:
        raise UsageError(
            f"{folder}: brings Python code of its own ({code}), which is not run",
            "read it first; --trust-remote-code runs it, with all that you may do",
        )
    progress.warn(f"{folder}: its own Python code ({code}) is run: it can do all that you may")


def lacking(folder: Path) -> bool:
    """Whether config.json points to code of the folder's own that was left out of it."""
    code = _named(_pointers(folder) or {})
    return code.endswith(".py") and not (folder / code).is_file()


def _pointers(folder: Path) -> object:
    path = folder / "config.json"
    values = jsonl.read_json(path) if path.is_file() else None
    return values.get("auto_map") if isinstance(values, dict) else None


def _named(pointers: object) -> str:
    """The first file of an auto_map ({class: "module.Name" or "owner/repo--module.Name"})."""
    found = pointers.values() if isinstance(pointers, dict) else [pointers]
    for pointer in found:
        for one in pointer if isinstance(pointer, list) else [pointer]:
            if isinstance(one, str):
                repo, _, name = one.rpartition("--")
                file = f"{name.split('.')[0]}.py"
                return f"{file} of {repo}" if repo else file
    return "config.json: auto_map"
