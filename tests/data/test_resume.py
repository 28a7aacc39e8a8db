"""A run that is ended, at any moment and however, is continued by the same command."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
from pathlib import Path

import pytest
import xxhash

from openchat_cli.data import shards
from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.shards import Store
from openchat_cli.data.worker import Item, Rules, Verdict
from tests.conftest import RunCli
from tests.data import generator
from tests.data.processes import (
    OUTPUTS,
    SLOW,
    alive,
    children,
    finished,
    needs_proc,
    outputs,
    start,
    started_with,
    until,
)
from tests.data.test_convert import model as model  # a tokeniser of single bytes


def make(folder: Path) -> Path:
    """Eight shards and a part of one, as pages and a dump."""
    made = generator.pages(700, seed=3)
    generator.write(folder / "pages", made)
    dump = "".join(json.dumps(row) + "\n" for row in generator.dump_rows(made[200:]))
    (folder / "dump.jsonl").write_text(dump, "utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "in")


@pytest.fixture
def chats(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "in")


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nothing disturbs gives."""
    folder = tmp_path_factory.mktemp("whole")
    summary = clean(CleanSettings(made, folder / "out"))
    assert (summary.shards, summary.reused) == (9, 0)
    found = outputs(folder / "out")
    assert set(found) == set(OUTPUTS)
    return found


@needs_proc
@pytest.mark.parametrize("count", [1, 4])
def test_killed_and_continued(
    openchat: RunCli, chats: Path, tmp_path: Path, whole: dict[str, bytes], count: int
) -> None:
    out = tmp_path / "out"
    process = start(tmp_path, chats, out, "--workers", "2", **started_with(tmp_path / "s", SLOW))
    until(lambda: len(finished(out)) >= count)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    until(lambda: not [pid for pid in workers if alive(pid)])
    kept = {path: path.stat().st_mtime_ns for path in finished(out)}
    assert not set(outputs(out)) & set(OUTPUTS)
    ended = openchat("data", "clean", chats, out, "--workers", "1", "--json")
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["shards"], counts["reused"]) == (9, len(kept))
    assert f"{len(kept)} of 9 shards" in ended.stderr
    assert outputs(out) == whole


KILL_AT = """
import os, pathlib, signal, sys
if "openchat_cli" in sys.orig_argv:
    replace = pathlib.Path.replace
    def killing(self, target):
        name = pathlib.Path(target).name
        if name == "{name}" and {before}:
            os.kill(os.getpid(), signal.SIGKILL)
        found = replace(self, target)
        if name == "{name}":
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    pathlib.Path.replace = killing
"""


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_killed_between_the_outputs(
    openchat: RunCli,
    chats: Path,
    tmp_path: Path,
    whole: dict[str, bytes],
    name: str,
    before: bool,
) -> None:
    """At the very moment in which an output gets its name."""
    out = tmp_path / "out"
    env = started_with(tmp_path / "s", KILL_AT.format(name=name, before=before))
    assert openchat("data", "clean", chats, out, env=env).returncode == -signal.SIGKILL
    assert (name in outputs(out)) == (not before)
    ended = openchat("data", "clean", chats, out, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["reused"] == 9
    assert outputs(out) == whole


def test_killed_when_all_is_done(openchat: RunCli, chats: Path, tmp_path: Path) -> None:
    """The working folder goes at one stroke; what is left of it is no unfinished run."""
    out = tmp_path / "out"
    env = started_with(tmp_path / "s", KILL_AT.format(name=".clean.done", before=False))
    assert openchat("data", "clean", chats, out, env=env).returncode == -signal.SIGKILL
    assert openchat("data", "clean", chats, out).returncode == 2
    assert openchat("data", "clean", chats, out, "--force").returncode == 0
    assert set(outputs(out)) == set(OUTPUTS)


def test_what_changed_in_between_is_worked_on_anew(
    openchat: RunCli, chats: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    env = started_with(tmp_path / "s", KILL_AT.format(name="dropped.jsonl", before=True))
    assert openchat("data", "clean", chats, out, env=env).returncode == -signal.SIGKILL
    page = generator.page([("human", "new"), ("gpt", "words")])
    (chats / "pages" / "000600.html").write_bytes(page)
    ended = openchat("data", "clean", chats, out, "--json")
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["shards"], counts["reused"]) == (9, 8)
    assert openchat("data", "clean", chats, "fresh").returncode == 0
    assert outputs(out) == outputs(tmp_path / "fresh")


@pytest.mark.slow
def test_other_settings_are_worked_on_anew(openchat: RunCli, chats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    env = started_with(tmp_path / "s", KILL_AT.format(name="dropped.jsonl", before=True))
    assert openchat("data", "clean", chats, out, env=env).returncode == -signal.SIGKILL
    ended = openchat("data", "clean", chats, out, "--blocked-word", "python", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["reused"] == 0
    assert openchat("data", "clean", chats, "other", "--blocked-word", "python").returncode == 0
    assert outputs(out) == outputs(tmp_path / "other")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_order(
    openchat: RunCli,
    chats: Path,
    tmp_path: Path,
    whole: dict[str, bytes],
    number: int,
    code: int,
) -> None:
    out = tmp_path / "out"
    process = start(tmp_path, chats, out, "--workers", "2", **started_with(tmp_path / "s", SLOW))
    until(lambda: len(finished(out)) >= 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "the same command goes on" in errors and "Traceback" not in errors
    names = set(outputs(out))
    assert not names & set(OUTPUTS)
    assert not [name for name in names if name.endswith(".part")]
    assert openchat("data", "clean", chats, out).returncode == 0
    assert outputs(out) == whole


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_stopped_at_once(tmp_path: Path, chats: Path, number: int, code: int) -> None:
    """Nothing half-written stays under an output's name, and no worker outlives its parent."""
    slow = SLOW.replace("0.1", "2")
    env = started_with(tmp_path / "s", slow)
    process = start(tmp_path, chats, "out", "--workers", "2", **env)
    until(lambda: len(children(process.pid)) == 2)
    workers = children(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert not any((tmp_path / "out" / name).exists() for name in OUTPUTS)
    until(lambda: not [pid for pid in workers if alive(pid)], 10)
    if number != signal.SIGKILL:
        assert not list((tmp_path / "out").glob("*"))


def test_two_runs_at_once(openchat: RunCli, chats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    slow = started_with(tmp_path / "s", SLOW.replace("0.1", "0.4"))
    process = start(tmp_path, chats, out, "--workers", "2", **slow)
    until(lambda: (out / ".clean").is_dir())
    ended = openchat("data", "clean", chats, out, "--force", "--quiet")
    assert (ended.returncode, "another run is writing here" in ended.stderr) == (1, True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert set(outputs(out)) == set(OUTPUTS)


def test_leftovers_of_a_dead_run_go_and_other_files_stay(
    openchat: RunCli, chats: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in (".conversations.jsonl.abc.part", ".dropped.jsonl.x_1.part", ".mine.part", "note"):
        (out / name).write_text("x", "utf-8")
    assert openchat("data", "clean", chats, out).returncode == 0
    assert set(outputs(out)) == {*OUTPUTS, ".mine.part", "note"}


def test_outputs_of_others_are_not_replaced(openchat: RunCli, chats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "conversations.jsonl").write_text("mine\n", "utf-8")
    ended = openchat("data", "clean", chats, out)
    assert (ended.returncode, "already there" in ended.stderr) == (2, True)
    assert outputs(out) == {"conversations.jsonl": b"mine\n"}


def test_a_shard_that_is_not_whole_is_worked_on_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    found = [Verdict("a", "page", "x", None, "", b"digest", b"{}\n", None, ("surrogates",))]
    store.put("key", found)
    assert store.get("key") == found
    assert store.get("other") is None
    data = (tmp_path / "key").read_bytes()
    for broken in (b"", data[:10], data[:-1], data[:-9] + b"x" + data[-8:]):
        (tmp_path / "key").write_bytes(broken)
        assert store.get("key") is None


def test_a_shard_file_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "evil"),)

    data = pickle.dumps([Evil()])
    (tmp_path / "key").write_bytes(xxhash.xxh3_128_digest(data) + data)
    assert Store(tmp_path).get("key") is None
    assert not (tmp_path / "evil").exists()


def test_all_steps_killed_and_continued(
    openchat: RunCli,
    chats: Path,
    tmp_path: Path,
    model: Path,
) -> None:
    """`data run` keeps the shards until its last step, and goes on without --force."""
    line = ("data", "run", chats, "out", "--model-type", "opencoder", "--model-path", model)
    env = started_with(tmp_path / "s", KILL_AT.format(name="filtered.jsonl", before=False))
    assert openchat(*line, "--model", "any", env=env).returncode == -signal.SIGKILL
    ended = openchat(*line, "--model", "any", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["reused"] == 9
    assert "opencoder.train.json" in outputs(tmp_path / "out")
    assert not [name for name in outputs(tmp_path / "out") if ".clean/" in name]
    assert openchat(*line, "--model", "any").returncode == 2


@pytest.mark.parametrize("name", ["beautifulsoup4", "html2text"])
def test_another_version_of_a_library_makes_other_shards(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads may come out otherwise: nothing that an earlier one left is reused."""

    def key() -> str:
        shards.libraries.cache_clear()
        item = Item("a.html", "page", "page", data=b"<html>")
        return next(shards.cut([item], Rules("exact", ()))).key

    before = key()
    assert key() == before
    info = tmp_path / f"{name}-999.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 999.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert key() != before
    finally:
        shards.libraries.cache_clear()
