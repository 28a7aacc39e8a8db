"""Files of JSON: what is read, what is refused and with which words, and that outputs are whole."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, OpenChatError, UsageError


def test_rows_come_with_their_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a":1}\n\n  \n{"a":"\xc3\xa9"}')
    assert list(jsonl.read_rows(path)) == [(1, {"a": 1}), (4, {"a": "é"})]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n{"a": ', "rows.jsonl:2: not JSON"),
        (b"[1]\n", "rows.jsonl:1: a JSON object was expected, found list"),
        (b'{"a": "\xff"}\n', "rows.jsonl:1: not UTF-8 (byte 7)"),
        (b'{"a": ' + b"[" * 200_000 + b"\n", "rows.jsonl:1: not JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(jsonl.read_rows(path))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_missing_files_folders_and_broken_gzip_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "rows.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"a": 1}\n')[:-4])
    for path, words in [
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "is a folder"),
        (broken, "not a whole gzip file"),
    ]:
        with pytest.raises(InputError, match=words):
            list(jsonl.read_rows(path))


def test_gz_round_trip_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\ud800"}, {"n": 2}]
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    assert jsonl.write_rows(first, rows) == 2
    time.sleep(1.1)  # a time stamp inside would differ
    jsonl.write_rows(second, rows)
    assert first.read_bytes() == second.read_bytes()
    assert [row for _, row in jsonl.read_rows(first)] == rows


def test_a_failing_writer_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    jsonl.write_rows(path, [{"old": True}])

    def rows() -> object:
        yield {"new": 1}
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        jsonl.write_rows(path, rows())  # type: ignore[arg-type]
    assert [row for _, row in jsonl.read_rows(path)] == [{"old": True}]
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        jsonl.write_rows(tmp_path / "out.jsonl", [{"x": float("nan")}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(OpenChatError, match="/dev/full: can't be written"):
        jsonl.write_rows(Path("/dev/full"), [{"text": "x" * 100_000}])


def test_claim_refuses_what_is_there_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.json"
    jsonl.claim([path], force=False)
    jsonl.write_json(path, {})
    with pytest.raises(UsageError) as caught:
        jsonl.claim([path], force=False)
    assert caught.value.hint == "add --force to write it anew"
    jsonl.claim([path], force=True)
    with pytest.raises(UsageError, match="a file is in the way"):
        jsonl.claim([path / "inside.json"], force=False)


def test_journal_keeps_what_was_appended_and_cuts_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with jsonl.Journal(path) as journal:
        journal.append({"key": "a", "value": 1})
    with path.open("ab") as stream:
        stream.write(b'{"key": "b", "val')
    with jsonl.Journal(path) as journal:
        assert "a" in journal
        assert "b" not in journal
        journal.append({"key": "b", "value": 2})
    assert [row["value"] for _, row in jsonl.read_rows(path)] == [1, 2]


def test_journal_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with jsonl.Journal(path), pytest.raises(OpenChatError, match="another openchat process"):
        jsonl.Journal(path)


def test_journal_survives_kill_nine(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    code = (
        "import sys; from pathlib import Path; from openchat_cli.core.jsonl import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    journal.append({'key': str(n), 'text': 'x' * 1000})\n"
        "    print(n, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    reported = [*range(21), *(int(line) for line in process.stdout if line.endswith("\n"))]
    process.stdout.close()
    process.wait()
    with jsonl.Journal(path) as journal:
        assert {str(n) for n in reported} <= journal.rows.keys()
    assert all(json.loads(line) for line in path.read_text().splitlines())
