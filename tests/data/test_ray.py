"""`data clean --executor ray` on a real cluster of this machine: the bytes of a local run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_cli.data import ray_executor, shards
from openchat_cli.data.worker import Rules
from tests.conftest import RunCli
from tests.data import generator
from tests.data.processes import (
    SLOW,
    alive,
    finished,
    needs_proc,
    outputs,
    start,
    started_with,
    until,
)

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
RAY = ("--executor", "ray", "--workers", "2")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home folder and a short temporary one (sockets lie in it), by which Ray may be known."""
    short = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    (tmp_path / "home").mkdir()
    yield {"HOME": str(tmp_path / "home"), "TMPDIR": str(short)}
    shutil.rmtree(short, ignore_errors=True)


def of_ray(mark: str) -> list[int]:
    """The processes that were started with that in their environment or command line."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            links = [str(link.readlink()) for link in (entry / "fd").iterdir()]
        except OSError:
            continue
        if mark.encode() in said or any(mark in link for link in links):
            found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]


def workers(mark: str) -> list[int]:
    """The processes of this cluster that work on shards."""
    found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in of_ray(mark)}
    return [pid for pid, said in found.items() if said.startswith(b"ray::_task")]


def nothing_left(home: dict[str, str]) -> None:
    until(lambda: not of_ray(home["TMPDIR"]), 20)
    assert not list(Path(home["TMPDIR"]).iterdir())
    assert not list(Path(home["HOME"]).iterdir())


@needs_ray
@needs_proc
@pytest.mark.slow
def test_a_worker_killed_in_mid_run(openchat: RunCli, tmp_path: Path, home: dict[str, str]) -> None:
    generator.write(tmp_path / "in", generator.pages(1500, seed=3))
    assert openchat("data", "clean", "in", "whole", "--quiet").returncode == 0
    slow = started_with(tmp_path / "s", SLOW.replace("0.1", "0.5"))
    process = start(tmp_path, "in", "out", *RAY, "--json", **home, **slow)
    until(lambda: finished(tmp_path / "out"), 60)
    until(lambda: workers(home["TMPDIR"]), 20)  # between two tasks there may be none
    victim = workers(home["TMPDIR"])[0]
    os.kill(victim, signal.SIGKILL)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert printed.startswith("{") and printed.count("\n") == 1
    assert "raylet" not in errors and "Traceback" not in errors
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")
    nothing_left(home)


@needs_ray
@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_stopped_and_continued_here(
    openchat: RunCli, tmp_path: Path, home: dict[str, str], number: int, code: int
) -> None:
    """Nothing of the cluster stays, and a local run goes on with its shards."""
    generator.write(tmp_path / "in", generator.pages(700, seed=3))
    assert openchat("data", "clean", "in", "whole", "--quiet").returncode == 0
    slow = started_with(tmp_path / "s", SLOW.replace("0.1", "0.5"))
    process = start(tmp_path, "in", "out", *RAY, **home, **slow)
    until(lambda: finished(tmp_path / "out"), 60)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (code, False), errors
    nothing_left(home)
    ended = openchat("data", "clean", "in", "out")
    assert ended.returncode == 0 and "were taken from the run before" in ended.stderr
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


@needs_ray
@needs_proc
@pytest.mark.slow
def test_a_cluster_that_is_there(openchat: RunCli, tmp_path: Path, home: dict[str, str]) -> None:
    generator.write(tmp_path / "in", generator.pages(300, seed=3))
    (tmp_path / "in" / "broken.html.gz").write_bytes(b"no gzip")
    assert openchat("data", "clean", "in", "whole", "--quiet").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    env = {**os.environ, **home, "RAY_AUTH_MODE": "disabled"}
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block"]
    options = ["--port", port, "--num-cpus", 2, "--include-dashboard=false"]
    options += ["--disable-usage-stats", "--object-store-memory", 200_000_000]
    options += ["--temp-dir", home["TMPDIR"]]
    cluster = subprocess.Popen(
        [str(part) for part in (*command, *options)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: _answers(port), 60)
        address = f"127.0.0.1:{port}"
        for out, given in (("out", ("--ray-address", address)), ("env", ())):
            ended = openchat(
                *("data", "clean", "in", out, "--executor", "ray", *given, "--quiet"),
                env={**home, "RAY_AUTH_MODE": "disabled", "RAY_ADDRESS": address},
            )
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
            assert outputs(tmp_path / out) == outputs(tmp_path / "whole")
        assert cluster.poll() is None
    finally:
        os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait(timeout=30)
        while left := of_ray(home["TMPDIR"]):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@needs_ray
def test_no_cluster_at_the_address(openchat: RunCli, tmp_path: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(2))
    line = ("data", "clean", "in", "out", "--executor", "ray", "--ray-address")
    ended = openchat(*line, "127.0.0.1:1")
    assert (ended.returncode, "no Ray cluster answers" in ended.stderr) == (1, True)
    assert "Traceback" not in ended.stderr
    assert openchat(*line, "nonsense").returncode == 2
    ended = openchat("data", "clean", "in", "out", "--ray-address", "a:1")
    assert (ended.returncode, "is for --executor ray" in ended.stderr) == (2, True)
    assert {path.split("/")[0] for path in outputs(tmp_path)} == {"in"}


def test_a_node_with_another_program_does_nothing() -> None:
    settings = Rules("exact", ())
    assert ray_executor._task(shards.program(), settings, []) == []
    assert ray_executor._task("another", settings, []) is None


def test_without_ray_its_extra_is_named(openchat: RunCli, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None"
    generator.write(tmp_path / "in", generator.pages(2))
    env = started_with(tmp_path / "s", code)
    ended = openchat("data", "clean", "in", "out", "--executor", "ray", env=env)
    assert ended.returncode == 2, ended.stderr
    assert "pip install 'openchat-cli[ray]'" in ended.stderr
