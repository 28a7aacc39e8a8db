"""The folder that a run writes to: one run at a time, and what an ended run left is found again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.data.shards import Store

WORKING = ".clean"
_DONE = ".clean.done"
_OUTPUTS = "outputs.json"


class Workplace:
    """OUT while a run writes to it; a context manager.

    OUT/.clean is there from the beginning of a run until all its outputs are: while it is there the
    run that made it has not ended well, and the outputs it names may be replaced. Raises
    OpenChatError where another run is at work in OUT.
    """

    def __init__(self, out: Path, progress: Progress = SILENT) -> None:
        self.out = out
        self.store = Store(out / WORKING)
        self._progress = progress
        self._lock: int | None = None

    def __enter__(self) -> Self:
        jsonl.make_folder(self.out)
        self._lock = _locked(self.out)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        folder = self.store.folder
        if folder.is_dir() and list(folder.iterdir()) == [folder / _OUTPUTS]:
            shutil.rmtree(folder, ignore_errors=True)
        elif error is not None and self.store.reused + self.store.added:
            self._progress.note(f"what is finished is kept in {folder}: the same command goes on")
        if self._lock is not None:
            os.close(self._lock)

    def claim(self, outputs: Iterable[Path], *, force: bool) -> None:
        """Refuse outputs that are already there, as jsonl.claim does.

        Those of a run that has not ended well are this one's to replace, and an empty one, which
        says that nothing was kept, is no loss.
        """
        left = self._left()
        in_the_way = [path for path in outputs if path not in left and not _is_empty(path)]
        jsonl.claim(in_the_way, force=force)

    def _left(self) -> set[Path]:
        try:
            names = jsonl.read_json(self.store.folder / _OUTPUTS)
        except InputError:
            return set()
        return {self.out / name for name in names if isinstance(name, str)}

    def begin(self, outputs: Sequence[Path]) -> None:
        """Clear away what a killed run left half-written, and make place for finished shards."""
        shutil.rmtree(self.out / _DONE, ignore_errors=True)
        for output in outputs:
            for left in output.parent.glob(f".{output.name}.*.part"):
                left.unlink(missing_ok=True)
        jsonl.make_folder(self.store.folder)
        jsonl.write_json(self.store.folder / _OUTPUTS, [path.name for path in outputs])

    def finish(self) -> None:
        """All outputs are there. The folder goes at one stroke, so that no kill halves it."""
        done = self.store.folder.replace(self.out / _DONE)
        shutil.rmtree(done, ignore_errors=True)


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _locked(folder: Path) -> int | None:
    """A hold on a folder that ends with this process, however it ends."""
    try:
        import fcntl
    except ImportError:
        return None  # Windows: two runs at once are the user's own care
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OpenChatError(
            f"{folder}: another run is writing here", "wait for its end, or choose another OUT"
        ) from None
    except OSError:
        pass  # some network file systems lock no folders
    return handle
