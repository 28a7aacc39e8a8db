"""How `data clean` runs: workers, their deaths, full disks; the same bytes whatever happens."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from openchat_cli.data.executors import DiedError, survived
from openchat_cli.data.worker import Item, Verdict
from tests.conftest import RunCli
from tests.data import generator
from tests.data.processes import (
    OUTPUTS,
    SLOW,
    children,
    finished,
    needs_proc,
    outputs,
    start,
    started_with,
    until,
)

HI = [("human", "hi"), ("gpt", "hello")]


def mixed(folder: Path) -> Path:
    """Pages, a zip and a dump in one folder; duplicates lie in other files and shards."""
    made = generator.pages(300, seed=3)
    generator.write(folder / "pages", made)
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for entry in generator.pages(150, seed=4) + made[:40]:
            archive.writestr(f"z/{len(archive.namelist())}.html", entry.data)
    dump = "".join(json.dumps(row) + "\n" for row in generator.dump_rows(made[100:]))
    (folder / "dump.jsonl").write_text(dump + "not json\n", "utf-8")
    return folder


def test_bytes_are_the_same_for_any_number_of_workers(openchat: RunCli, tmp_path: Path) -> None:
    mixed(tmp_path / "in")
    for workers in (1, 2, 7):
        ended = openchat(
            *("data", "clean", "in", f"out{workers}", "--workers", workers, "--quiet"),
            env={"PYTHONHASHSEED": str(workers)},
        )
        assert (ended.returncode, ended.stderr) == (0, "")
    found = [outputs(tmp_path / f"out{workers}") for workers in (1, 2, 7)]
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == set(OUTPUTS)
    reasons = json.loads(found[0]["clean.report.json"])["reasons"]
    assert reasons["duplicate"] > 50


@needs_proc
def test_a_worker_that_is_killed_costs_nothing(openchat: RunCli, tmp_path: Path) -> None:
    folder = mixed(tmp_path / "in")
    assert openchat("data", "clean", folder, "whole", "--quiet").returncode == 0
    slow = started_with(tmp_path / "s", SLOW)
    process = start(tmp_path, folder, "out", "--workers", "2", **slow)
    until(lambda: finished(tmp_path / "out"))
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "a worker process died (SIGKILL)" in errors and "Traceback" not in errors
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


# In the worker processes alone, a page may kill, hang, or exhaust the memory.
DEADLY = """
import os, signal, sys
if "openchat_cli.data.worker" in " ".join(sys.orig_argv):
    from openchat_cli.data import pages, worker
    worker.LONGEST_WORK = 0.5
    whole = pages.next_data
    def next_data(data):
        if b"SEGFAULT" in data:
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"MEMORY" in data:
            raise MemoryError
        while b"FOREVER" in data:
            pass
        return whole(data)
    pages.next_data = next_data
"""


def test_a_page_that_kills_its_process_is_dropped_alone(openchat: RunCli, tmp_path: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(160, seed=3))
    deadly = {"000005.html": "SEGFAULT", "000150.html": "FOREVER", "000159.html": "MEMORY"}
    for name, word in deadly.items():
        (tmp_path / "in" / name).write_text(f"<html>{word}", "utf-8")
    env = started_with(tmp_path / "site", DEADLY)
    for workers in (1, 2):
        ended = openchat("data", "clean", "in", f"out{workers}", "--workers", workers, env=env)
        assert ended.returncode == 0, ended.stderr
        assert "died (SIGSEGV)" in ended.stderr and "died (SIGPROF)" in ended.stderr
    found = outputs(tmp_path / "out1")
    assert found == outputs(tmp_path / "out2")
    dropped = [json.loads(line) for line in found["dropped.jsonl"].splitlines()]
    failed = {row["source"]: row["detail"] for row in dropped if row["reason"] == "failed"}
    died = "the worker process died on it"
    assert failed == dict.fromkeys(deadly, died) | {"000159.html": "MemoryError: "}
    assert json.loads(found["clean.report.json"])["read"] == 160


def test_workers_that_cannot_start_are_one_line(openchat: RunCli, tmp_path: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(5))
    code = "import os, sys\nif '-c' in sys.orig_argv: os._exit(7)"
    ended = openchat(
        "data", "clean", "in", "out", "--quiet", env=started_with(tmp_path / "s", code)
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 2)
    assert "a worker process can't be started (exit code 7)" in ended.stderr
    assert outputs(tmp_path / "out") == {}


def test_only_a_death_that_repeats_is_blamed_on_an_item() -> None:
    items = [Item("a", "1", "json"), Item("a", "2", "json"), Item("a", "3", "json")]
    deaths = iter([True, False])

    def once(batch: object) -> list[Verdict]:
        if next(deaths):
            raise DiedError
        return [Verdict("a", "1", None, None, "")]

    assert len(survived(once, items)) == 1

    def second(batch: list[Item]) -> list[Verdict]:
        if items[1] in batch:
            raise DiedError
        return [Verdict(item.source, item.where, None, None, "") for item in batch]

    found = survived(second, items)  # type: ignore[arg-type]  # lists are what it is given
    assert [(verdict.where, verdict.reason) for verdict in found] == [
        ("1", None),
        ("2", "failed"),
        ("3", None),
    ]


# --- what may be in the way ---


def test_a_run_that_keeps_nothing_is_not_in_the_way_of_the_next(
    openchat: RunCli, tmp_path: Path
) -> None:
    page = generator.page([("human", "zebra?"), ("gpt", "yes")])
    generator.write(tmp_path / "in", [generator.Page("a.html", page, None)])
    ended = openchat("data", "clean", "in", "out", "--blocked-word", "zebra")
    assert (ended.returncode, "none of 1 conversations was kept" in ended.stderr) == (1, True)
    found = outputs(tmp_path / "out")
    assert set(found) == set(OUTPUTS)
    assert found["conversations.jsonl"] == b"" and b"blocked_word" in found["dropped.jsonl"]
    assert openchat("data", "clean", "in", "out").returncode == 0
    assert openchat("data", "clean", "in", "out").returncode == 2


def test_a_full_disk_is_one_line(openchat: RunCli, tmp_path: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(50))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / OUTPUTS[1]).symlink_to("/dev/full")
    ended = openchat("data", "clean", "in", "out", "--force", "--quiet")
    assert (ended.returncode, "No space left" in ended.stderr) == (1, True)
    assert "bug" not in ended.stderr and "Traceback" not in ended.stderr
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "openchat_cli", "data", "clean", "in", "-", "--quiet"]
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "error: stdout: can't be written (No space left on device)\n"
    ended = openchat("data", "clean", "in", "/dev/full")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("size", [3_000, 100_000], ids=["for a shard", "for the rows"])
def test_no_room_is_one_line_and_the_next_run_goes_on(
    openchat: RunCli, tmp_path: Path, size: int
) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the same place."""
    generator.write(tmp_path / "in", generator.pages(300))
    command = [sys.executable, "-m", "openchat_cli", "data", "clean", "in", "out", "--quiet"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        check=False,
    )
    assert (ended.returncode, "can't be written" in ended.stderr) == (1, True), ended.stderr
    assert "Traceback" not in ended.stderr and "bug" not in ended.stderr
    left = set(outputs(tmp_path / "out"))
    assert not left & set(OUTPUTS) and not [name for name in left if name.endswith(".part")]
    assert openchat("data", "clean", "in", "out").returncode == 0
    assert openchat("data", "clean", "in", "whole").returncode == 0
    assert outputs(tmp_path / "out") == outputs(tmp_path / "whole")


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    made = [
        generator.Page(f"{n}.html", generator.page([("human", str(n)), ("gpt", "x " * 5000)]), None)
        for n in range(300)
    ]
    generator.write(tmp_path / "in", made)
    process = start(tmp_path, "in", "-", "--quiet")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_progress_knows_how_many_there_are(openchat: RunCli, tmp_path: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(150))
    ended = openchat("data", "clean", "in", "out")
    assert "clean: 150/150 pages" in ended.stderr
    rest = ended.stderr.split("150/150 pages")[1].splitlines()[0]
    assert rest.strip().endswith("/s")
