"""The training stage: starts the ranks of this machine, follows them, and always reaps them.

Where a launcher (torchrun, deepspeed, srun) has started this process already, it is one of the
ranks itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import OpenChatError, UsageError, need
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.model import folder as model_folder
from openchat_cli.training import checkpoint, events, log
from openchat_cli.training.events import Follower
from openchat_cli.training.resolve import Resolved, resolve
from openchat_cli.training.settings import Ranks, Run, TrainSettings, TrainSummary

_POLL = 0.2  # seconds
_GRACE = 2.0  # seconds from a rank's death to the end, for the others to say what they know
_TERMINATE = 5.0  # seconds from SIGTERM to SIGKILL


def train(
    settings: TrainSettings, *, progress: Progress = SILENT, ranks: Ranks | None = None
) -> TrainSummary:
    """Fine-tune a model and export it to `settings.save_path`.

    `ranks` is this process's place where a launcher has started it; None launches
    `settings.num_gpus` ranks here. Raises InputError or UsageError before anything heavy begins,
    OpenChatError with the reason where a rank fails.
    """
    need("openchat train", "train", "torch", "transformers", "deepspeed")
    began = time.monotonic()
    resolved = resolve(settings, ranks.world_size if ranks else settings.num_gpus, build=True)
    if ranks is None or ranks.rank == 0:
        for note in resolved.notes:
            progress.note(note)
        for warning in resolved.warnings:
            progress.warn(warning)
        _claim(settings, resolved.run)
    follower = Follower(progress)
    with contextlib.closing(follower):
        if ranks is not None:
            _join_in_process(resolved.run, ranks, follower)
        else:
            _launch(resolved.run, follower)
    return _summary(resolved.run, follower, time.monotonic() - began)


def plan(settings: TrainSettings, *, ranks: Ranks | None = None) -> Resolved:
    """What `train` would do, with every setting decided: for a dry run."""
    return resolve(settings, ranks.world_size if ranks else settings.num_gpus)


def _claim(settings: TrainSettings, run: Run) -> None:
    """Make the save path ours, or refuse one that holds something."""
    folder = settings.save_path
    if folder.resolve() == settings.model_path.resolve():
        raise UsageError(f"{folder}: --save-path must not be the model that is trained")
    found = checkpoint.newest(folder)
    if found is not None and settings.resume:
        checkpoint.check_continues(run, found)
    elif not (settings.force or settings.resume):
        exported = folder / "config.json"
        if exported.exists():
            raise UsageError(f"{exported}: a model is there already", "--force trains anew")
        if found is not None:
            hint = "--resume goes on from it, --force begins anew"
            raise UsageError(f"{found.path}: a checkpoint is there already", hint)
    jsonl.make_folder(checkpoint.folder(run))
    log.check_free(folder)
    checkpoint.clean(run, everything=not settings.resume)


def _summary(run: Run, follower: Follower, seconds: float) -> TrainSummary:
    done = follower.done or {}
    return TrainSummary(
        save_path=run.folder,
        steps=done.get("steps", 0),
        resumed_from=done.get("resumed_from", 0),
        world_size=run.world_size,
        loss=done.get("loss"),
        eval_loss_first=done.get("eval_loss_first"),
        eval_loss_last=done.get("eval_loss_last"),
        tokens=done.get("tokens", 0),
        tokens_per_second=done.get("tokens_per_second", 0.0),
        useful_share=done.get("useful_share", 0.0),
        seconds=seconds,
        startup_seconds=done.get("startup_seconds", 0.0),
    )


# --- as one of the ranks ---


def _join_in_process(run: Run, ranks: Ranks, follower: Follower) -> None:
    with _stdout_as_stderr():
        from openchat_cli.training.worker import run_rank

        run_rank(run, ranks, follower.handle)


@contextlib.contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """DeepSpeed prints to stdout, which carries data only."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


# --- as the launcher ---


def _launch(run: Run, follower: Follower) -> None:
    receive, send = os.pipe()
    meeting = Path(tempfile.mkdtemp(prefix="openchat-train-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(run.world_size):
            started.append(_start(run, rank, send, meeting / "ranks"))
        os.close(send)
        _follow(run, started, receive, follower)
    finally:
        _reap(started)
        model_folder.sweep(run.folder)  # a rank may have died while it exported
        os.close(receive)
        shutil.rmtree(meeting, ignore_errors=True)


def _start(run: Run, rank: int, send: int, rendezvous: Path) -> subprocess.Popen[bytes]:
    printed = _printed(run, rank)
    jsonl.make_folder(printed.parent)
    with printed.open("ab" if run.resume else "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "openchat_cli.training.entry"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(send,),
            start_new_session=True,  # Ctrl-C comes to us, and we pass it on
        )
    told = {
        "run": run.to_row(),
        "ranks": vars(Ranks(rank, run.world_size, rank, run.world_size)),
        "events": send,
        "rendezvous": str(rendezvous),
        "loopback": _loopback(),
    }
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died: following it tells why
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
    return process


def _printed(run: Run, rank: int) -> Path:
    return run.folder / "logs" / f"rank-{rank}.log"


def _loopback() -> str | None:
    names = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
    return next((name for name in ("lo", "lo0") if name in names), None)


def _follow(
    run: Run, started: list[subprocess.Popen[bytes]], receive: int, follower: Follower
) -> None:
    """Show events until all ranks have ended well; raise the reason when one has not."""
    pending = b""
    deadline: float | None = None
    while True:
        readable, _, _ = select.select([receive], [], [], _POLL)
        block = os.read(receive, 1 << 16) if readable else None
        if block:
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                _handle(follower, line)
        failed = any(process.poll() not in (None, 0) for process in started)
        if failed and deadline is None:
            deadline = time.monotonic() + _GRACE
        if block == b"" or (deadline is not None and time.monotonic() > deadline):
            break
    if failed or any(process.wait() for process in started) or follower.done is None:
        raise _reason(run, started, follower)


def _handle(follower: Follower, line: bytes) -> None:
    with contextlib.suppress(ValueError):  # the torn last line of a rank that was killed
        event: dict[str, Any] = json.loads(line)
        follower.handle(event)


def _reason(run: Run, started: list[subprocess.Popen[bytes]], follower: Follower) -> OpenChatError:
    """Why the job ended: a rank killed from outside before one that lost its peer by that."""
    for rank, process in enumerate(started):
        code = process.poll()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            why = " (out of memory?)" if name == "SIGKILL" else ""
            return OpenChatError(
                f"rank {rank} was killed by {name}{why}", f"see {_printed(run, rank)}"
            )
    if follower.error is not None:
        return events.to_error(follower.error, f"see {_printed(run, follower.error['rank'])}")
    rank = next((at for at, process in enumerate(started) if process.poll()), 0)
    return OpenChatError(f"rank {rank} ended without a reason", f"see {_printed(run, rank)}")


def _reap(started: list[subprocess.Popen[bytes]]) -> None:
    """Leave no rank behind: SIGTERM to each and its children, SIGKILL to what stays."""
    deadline = time.monotonic() + _TERMINATE
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
    for process in started:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
