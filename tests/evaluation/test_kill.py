"""Killed again and again under a server that fails: nothing recorded is lost or asked for twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openchat_cli.core.client import Chat, Client
from openchat_cli.core.endpoint import Endpoint
from tests.evaluation.fake_judge import FakeJudge, Seen
from tests.evaluation.runs import make_run, rows

CONCURRENCY = 8
FAULTS = {
    "too_many": 0.1,
    "broken": 0.06,
    "hang": 0.02,
    "cut": 0.04,
    "truncated": 0.04,
    "garbage": 0.04,
}


def start(line: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "openchat_cli", *line]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def recorded(journal: Path) -> set[str]:
    """The keys of the finished calls; a torn last line is no record."""
    if not journal.is_file():
        return set()
    whole = journal.read_bytes().rpartition(b"\n")[0]
    found = (json.loads(line) for line in whole.split(b"\n") if line)
    return {row["key"] for row in found if "text" in row}


def key_of(seen: Seen, url: str, model: str) -> str:
    """The journal's key of a request that the server saw."""
    parameters = {name: v for name, v in seen.body.items() if name not in ("model", "messages")}
    return Client(Endpoint(url), model).key_of(Chat(seen.body["messages"], parameters))


@pytest.mark.slow
def test_kill_nine_loses_and_repeats_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 60)
    journal = run / ".journal" / "judge-fake.jsonl"
    draw = random.Random(7)
    kills = 0
    with FakeJudge(latency=0.15, retry_after=0.1, **FAULTS) as server:
        line = ["eval", "judge", str(run), "--baseline", "base", "--judge", "fake", "--judge-url",
                server.url, "--concurrency", str(CONCURRENCY), "--timeout", "1.5"]  # fmt: skip
        for _ in range(6):
            process = start(line)
            wait_for_call(server, process)
            time.sleep(draw.uniform(0.1, 0.9))
            kills += process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            kept = recorded(journal)
            before = len(server.seen)
            time.sleep(0.2)  # what was under way comes in
            assert all(
                key_of(seen, server.url, "fake") not in kept for seen in server.seen[before:]
            )
        known = recorded(journal)
        asked = len(server.seen)
        ended = subprocess.run(
            [sys.executable, "-m", "openchat_cli", *line], capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        repeated = [s for s in server.seen[asked:] if key_of(s, server.url, "fake") in known]
        assert repeated == []
        # Answered more than once: only what was in flight at a kill.
        assert sum(count - 1 for count in server.answered.values()) <= kills * CONCURRENCY
        found = rows(run / "judgments" / "ours_vs_base.jsonl")
        assert len(found) == 120
        assert all(row["status"] in ("ok", "unreadable") for row in found)
        assert sum(row["status"] == "ok" for row in found) >= 110
        server.forget()
        again = subprocess.run(
            [sys.executable, "-m", "openchat_cli", *line], capture_output=True, text=True
        )
        assert again.returncode == 0, again.stderr
        assert server.seen == []
    assert kills >= 5


def wait_for_call(server: FakeJudge, process: subprocess.Popen[bytes]) -> None:
    """Until the process has asked something, or has ended."""
    before = len(server.seen)
    while len(server.seen) == before and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_whole_files(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    run = tmp_path / "run"
    make_run(run, 20)
    with FakeJudge(latency=0.2) as server:
        line = ["eval", "judge", str(run), "--baseline", "base", "--judge", "fake", "--judge-url",
                server.url, "--concurrency", "4"]  # fmt: skip
        process = start(line)
        wait_for_call(server, process)
        time.sleep(0.5)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == code
        assert b"Traceback" not in errors
        done = recorded(run / ".journal" / "judge-fake.jsonl")
        assert done
        assert not (run / "judgments" / "ours_vs_base.jsonl").exists()
        server.forget()
        ended = subprocess.run([sys.executable, "-m", "openchat_cli", *line], capture_output=True)
        assert ended.returncode == 0
        assert len(server.seen) == 40 - len(done)
