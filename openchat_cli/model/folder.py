"""Folders that appear whole: written beside, then moved into place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from openchat_cli.core.errors import OpenChatError, UsageError
from openchat_cli.core.jsonl import make_folder
from openchat_cli.core.manifest import FILE_NAME as MANIFEST

_PART = ".part"


def claim(out: Path, *, force: bool) -> None:
    """Refuse a model that is already there unless `force`."""
    if out.is_file():
        raise UsageError(f"{out}: a folder is needed here, but a file is in the way")
    if (out / MANIFEST).exists() and not force:
        raise UsageError(f"{out}: already holds a model", "add --force to write it anew")
    if (out / "config.json").exists() and not (out / MANIFEST).exists():
        hint = "choose another folder for the output"
        raise UsageError(f"{out}: holds a model that openchat did not write", hint)
    make_folder(out.parent)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write in, whose files stand in `out` when the block ends without an exception.

    Other files in `out` (logs, checkpoints) stay; an older model's weights go. `openchat.json`
    leaves first and arrives last: a folder that has it is complete, whatever happened.
    """
    work = _beside(out)
    try:
        yield work
        _open_to_readers(work)
        _publish(work, out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OpenChatError(f"{out}: can't be written ({reason})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sweep(out: Path) -> None:
    """Remove what a killed process had begun to write for `out`."""
    for path in out.parent.glob(f"{_before(out)}*{_PART}"):
        shutil.rmtree(path, ignore_errors=True)


def _before(out: Path) -> str:
    return f".{out.name}."


def _beside(out: Path) -> Path:
    make_folder(out.parent)
    try:
        work = Path(tempfile.mkdtemp(prefix=_before(out), suffix=_PART, dir=out.parent))
    except OSError as error:
        raise OpenChatError(f"{out}: can't be written ({error.strerror})") from None
    return work


def _open_to_readers(work: Path) -> None:
    """Temporary folders and safetensors files are made for their owner alone; undo that."""
    mask = os.umask(0)
    os.umask(mask)
    work.chmod(0o777 & ~mask)
    for path in work.iterdir():
        path.chmod(0o666 & ~mask)


def _publish(work: Path, out: Path) -> None:
    if not out.exists():
        work.replace(out)
        return
    (out / MANIFEST).unlink(missing_ok=True)
    for pattern in ("model*.safetensors", "model.safetensors.index.json"):
        for stale in out.glob(pattern):
            stale.unlink()
    for path in sorted(work.iterdir(), key=lambda path: path.name == MANIFEST):
        path.replace(out / path.name)
