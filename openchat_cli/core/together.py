"""Several files that appear together, or not at all, wherever the work is killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

from openchat_cli.core.errors import OpenChatError


@contextlib.contextmanager
def written_together(paths: Sequence[Path]) -> Iterator[list[BinaryIO]]:
    """A stream for each path; the files appear when the block ends without an exception.

    The bytes go to hidden files beside, which are all on the disk before the first is renamed. What
    a killed run has left of these names is removed first; a run that is alive keeps its files.
    """
    try:
        for path in paths:
            _sweep(path)
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(_part(path)) for path in paths]
            yield [cast(BinaryIO, stream) for stream in streams]
            for stream in streams:
                stream.flush()
                os.fsync(stream.fileno())
            for stream, path in zip(streams, paths, strict=True):
                Path(stream.name).replace(path)
    except OSError as error:
        where = error.filename or paths[0].parent
        raise OpenChatError(f"{where}: can't be written ({error.strerror})") from error


@contextlib.contextmanager
def _part(path: Path) -> Iterator[IO[bytes]]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    stream = open(name, "r+b", opener=lambda *_: handle)  # noqa: SIM115  # has a name
    try:
        with stream:
            _lock(stream)
            Path(name).chmod(0o666 & ~_umask())
            yield stream
    finally:
        Path(name).unlink(missing_ok=True)  # where it was not renamed


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sweep(path: Path) -> None:
    """Remove parts that no living process has locked."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with contextlib.suppress(OSError), part.open("r+b") as stream:
            _lock(stream)
            part.unlink()


def _lock(stream: IO[bytes]) -> None:
    """Hold a file until it is closed or the process ends; OSError where another has it."""
    try:
        import fcntl
    except ImportError:
        return  # Windows: a file that is open can't be removed there anyway
    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
