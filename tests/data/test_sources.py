"""Folders, archives and streams: every wrapping in which chats come, whole and broken."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from openchat_cli.core.errors import InputError
from openchat_cli.data import dumps, sources
from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.worker import Item
from tests.conftest import RunCli
from tests.data import generator, test_export, test_saved_pages
from tests.data.cleaning import HI, MESSAGES, cleaned


def test_pages_in_every_wrapping_are_one_run(tmp_path: Path) -> None:
    def page(name: str) -> bytes:
        return generator.page([("human", name), ("gpt", "x")], name=name)

    folder = tmp_path / "in"
    (folder / "ShareGPT" / "deep").mkdir(parents=True)
    (folder / "ShareGPT" / "b.html").write_bytes(page("b"))
    (folder / "ShareGPT" / "deep" / "c.htm").write_bytes(page("c"))
    (folder / "ShareGPT" / "a.html.gz").write_bytes(generator.packed(page("a")))
    (folder / "ShareGPT" / "D.HTML.GZ").write_bytes(generator.packed(page("d")))
    (folder / "ShareGPT" / ".hidden.html").write_bytes(page("hidden"))
    (folder / "notes.txt").write_text("not a chat", "utf-8")
    (folder / "openchat.map.html").write_text("<html>our own</html>", "utf-8")
    with zipfile.ZipFile(folder / "x.zip", "w") as packed:
        packed.writestr("z/2.html", page("zip2"))
        packed.writestr("z/1.html", page("zip1"))
        packed.writestr("z/style.css", "p {}")
    with tarfile.open(folder / "y.tar.gz", "w:gz") as archive:
        for name in ("t1", "t2"):
            info = tarfile.TarInfo(f"{name}.html")
            info.size = len(page(name))
            archive.addfile(info, io.BytesIO(page(name)))
    row = {
        "id": "row",
        "conversations": [{"from": "human", "value": "r"}, {"from": "gpt", "value": "x"}],
    }
    (folder / "dump.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    kept, dropped = cleaned(folder)
    assert dropped == []
    assert [row["id"] for row in kept] == ["d", "a", "b", "c", "row", "zip1", "zip2", "t1", "t2"]
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert (report["read"], report["ignored_files"]) == (9, 3)


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "one").mkdir(parents=True)
    (folder / "one" / "a.html").write_bytes(generator.page(HI))
    (folder / "one" / "up").symlink_to(folder)
    (folder / "ShareGPT").symlink_to(folder / "one")
    kept, dropped = cleaned(folder)
    assert len(kept) == 1
    assert {row["reason"] for row in dropped} <= {"duplicate"}


def test_output_in_the_folder_that_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(generator.page(HI))
    for force in (False, True):
        summary = clean(CleanSettings(tmp_path, tmp_path, force=force))
        assert (summary.read, summary.kept) == (1, 1)


def test_broken_archives_and_dumps_are_drops(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.html").write_bytes(generator.page(HI))
    (folder / "b.zip").write_bytes(b"PK\3\4 torn")
    (folder / "c.tar").write_bytes(b"not a tar at all" * 100)
    (folder / "d.jsonl").write_text('{"id": 1}\n{"torn\n[]\n7\n\n', "utf-8")
    (folder / "e.json").write_text(
        '[{"messages": 5}, {"messages": [{"role": "user"}]}, {"x"', "utf-8"
    )
    (folder / "f.jsonl.gz").write_bytes(b"\x1f\x8b torn")
    (folder / "g.json").write_bytes(b'[{"items": ["\xff"]}]')
    kept, dropped = cleaned(folder)
    assert len(kept) == 1
    assert [(row["source"], row["where"], row["reason"]) for row in dropped] == [
        ("b.zip", "file", "unreadable"),
        ("c.tar", "file", "unreadable"),
        ("d.jsonl", "line 1", "unknown_shape"),
        ("d.jsonl", "line 2", "bad_json"),
        ("d.jsonl", "line 3", "too_short"),
        ("d.jsonl", "line 4", "unknown_shape"),
        ("e.json", "item 1", "unknown_shape"),
        ("e.json", "item 2, turn 1", "bad_turn"),
        ("e.json", "item 3", "bad_json"),
        ("f.jsonl.gz", "file", "unreadable"),
        ("g.json", "item 1", "not_utf8"),
    ]


class Dribble:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        self._stream, self._most = io.BytesIO(data), most

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, self._most))


@pytest.mark.parametrize("most", [1, 7, 1000])
@pytest.mark.parametrize("form", ["array", "indented", "lines", "one", "values"])
def test_streams_are_cut_right_wherever_the_reads_end(form: str, most: int) -> None:
    chance = random.Random(5)
    values = [
        {"id": k, "items": [{"from": "human", "value": chance.choice(["é\n", '"}{][', "a" * 50])}]}
        for k in range(6)
    ]
    text = {
        "array": json.dumps(values),
        "indented": "\ufeff" + json.dumps(values, indent=2, ensure_ascii=False),
        "lines": "\n\n".join(json.dumps(value, ensure_ascii=False) for value in values),
        "one": json.dumps(values[0], indent=1),
        "values": "\n".join(json.dumps(value, indent=1) for value in values),
    }[form]
    items: list[Item] = list(dumps.items(Dribble(text.encode(), most), "s"))
    found = [json.loads(item.data or b"null") for item in items]
    assert found == (values[:1] if form == "one" else values)


# --- archives ---


def page(name: str) -> bytes:
    return generator.page([("human", name), ("gpt", "x")], name=name)


# In this order by path: a component at a time, so that "b/" comes before "b-c/".
NAMES = ("a.html", "b/1.html", "b/2.htm", "b-c/d.html", "z.html.gz")
MEMBERS = {name: page(name) for name in NAMES} | {NAMES[-1]: generator.packed(page(NAMES[-1]))}


def tree(folder: Path) -> Path:
    for name, data in MEMBERS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tarred(path: Path, mode: str, members: dict[str, bytes] = MEMBERS) -> Path:
    """A tar with its members the wrong way round."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in reversed(members.items()):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, members: dict[str, bytes] = MEMBERS) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in reversed(members.items()):
            archive.writestr(name, data)
    return path


def test_the_order_is_the_same_whatever_the_container(tmp_path: Path) -> None:
    inputs = [
        tree(tmp_path / "in"),
        zipped(tmp_path / "in.zip"),
        tarred(tmp_path / "in.tar", "w"),
        tarred(tmp_path / "in.tar.gz", "w:gz"),
        tarred(tmp_path / "in.tgz", "w:gz"),
        tarred(tmp_path / "in.tar.bz2", "w:bz2"),
        tarred(tmp_path / "in.tar.xz", "w:xz"),
        zipped(tmp_path / "download"),
        tarred(tmp_path / "download.1", "w:gz"),
    ]
    for source in inputs:
        kept, dropped = cleaned(source)
        assert ([row["id"] for row in kept], dropped) == (list(NAMES), []), source.name
    assert kept[1]["source"] == "download.1/b/1.html"


def test_archives_through_a_pipe(openchat: RunCli, tmp_path: Path) -> None:
    tree(tmp_path / "in")
    rows = json.dumps({"messages": MESSAGES})
    (tmp_path / "rows.jsonl.gz").write_bytes(generator.packed(rows.encode()))
    sources = [
        (zipped(tmp_path / "in.zip"), 5),
        (tarred(tmp_path / "in.tar.gz", "w:gz"), 5),
        (tarred(tmp_path / "in.tar", "w"), 5),
        (tmp_path / "rows.jsonl.gz", 1),
        (tmp_path / "in" / "a.html", 1),
    ]
    for number, (path, count) in enumerate(sources):
        command = f"{sys.executable} -m openchat_cli data clean"
        ways = (f"- - < {path}", f"<(cat {path}) -", f"/dev/stdin - < {path}")
        for way in ways if number == 1 else ways[number % 2 :][:1]:
            ended = subprocess.run(
                ["bash", "-c", f"{command} {way} --quiet"],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                check=False,
            )
            assert ended.stdout.count("\n") == count, (number, way, ended.stderr)


def test_members_that_are_no_pages(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip").read_bytes()
    members = {
        "a.html": page("a"),
        "b/inner.zip": inner,
        "b/inner.tar.gz": b"x",
        "__MACOSX/._a.html": b"x",
        ".git/a.html": b"x",
        "empty.json": b"",
        "notes.txt": b"x",
        "dropped.jsonl": b"{}",
        "o.json": b'{"question_id": 1, "turns": ["x"]}',
    }
    for path in (zipped(tmp_path / "in.zip", members), tarred(tmp_path / "in.tar", "w", members)):
        kept, dropped = cleaned(path)
        assert [row["id"] for row in kept] == ["a"]
        assert [(row["source"], row["reason"]) for row in dropped] == [
            (f"{path.name}/b/inner.tar.gz", "unreadable"),
            (f"{path.name}/b/inner.zip", "unreadable"),
            (f"{path.name}/o.json", "unknown_shape"),
        ]
        assert "archive inside an archive" in dropped[0]["detail"]
        report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
        assert report["ignored_files"] == 3


def test_encrypted_and_damaged_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "in.zip", {"a.html": page("a"), "b.html": page("b"), "c.html": b"c"})
    data = bytearray(path.read_bytes())
    for at in _places(data, b"PK\3\4"):
        name = bytes(data[at + 30 : at + 31])
        if name == b"a":
            data[at + 6] |= 1  # the member's own header says encrypted
        if name == b"b":
            data[at + 60] ^= 0xFF
    for at in _places(data, b"PK\1\2"):
        if data[at + 46 : at + 47] == b"a":
            data[at + 8] |= 1
    path.write_bytes(data)
    folder = tmp_path / "in"
    folder.mkdir()
    path.rename(folder / "in.zip")
    (folder / "good.html").write_bytes(page("good"))
    kept, dropped = cleaned(folder)
    assert [row["id"] for row in kept] == ["good"]
    assert [row["reason"] for row in dropped] == ["unreadable", "unreadable", "not_html"]
    assert "encrypted" in dropped[0]["detail"]


def _places(data: bytes, what: bytes) -> list[int]:
    return [at for at in range(len(data)) if data[at : at + 4] == what]


def test_names_in_odd_codings_and_twice(tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\u4f60\u597d/1.html", page("1"))
        archive.writestr("folder\\2.html", page("2"))
        archive.writestr("/3.html", page("3"))
        archive.writestr("line\nend.html", page("4"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("/3.html", page("5"))
    kept, dropped = cleaned(path)
    assert (sorted(row["id"] for row in kept), dropped) == (["1", "2", "3", "4", "5"], [])
    data = path.read_bytes().replace("\u4f60".encode(), b"\xc4\xe3\xff")
    path.write_bytes(data)  # said to be UTF-8, and is not
    with pytest.raises(InputError, match="in.zip: can't be read"):
        cleaned(path)


@pytest.mark.slow
def test_a_zip_of_many_members_is_zip64(tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(66_000):
            archive.writestr(f"{number}.txt", b"")
        with archive.open("a.html", "w", force_zip64=True) as member:
            member.write(page("a"))
    kept, _ = cleaned(path)
    assert [row["id"] for row in kept] == ["a"]


def test_archives_cut_off(tmp_path: Path) -> None:
    members = {f"{n}.html": page(str(n)) + random.Random(n).randbytes(5000) for n in range(5)}
    whole = tarred(tmp_path / "in.tar", "w", members).read_bytes()
    (tmp_path / "in.tar").write_bytes(whole[: len(whole) // 2])
    kept, dropped = cleaned(tmp_path / "in.tar")
    assert len(kept) >= 1
    assert dropped[-1]["reason"] == "unreadable" and "broken archive" in dropped[-1]["detail"]
    at = whole.index(b"./2.html")
    (tmp_path / "in.tar").write_bytes(whole[:at] + b"\xff" * 512 + whole[at + 512 :])
    kept, dropped = cleaned(tmp_path / "in.tar")
    assert dropped[-1]["reason"] == "unreadable"
    packed = tarred(tmp_path / "in.tar.gz", "w:gz", members)
    packed.write_bytes(packed.read_bytes()[:-7000])
    kept, dropped = cleaned(packed)
    assert len(kept) >= 1 and dropped[-1]["reason"] == "unreadable"
    cut = zipped(tmp_path / "cut.zip", members)
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(InputError, match="cut.zip: can't be read"):
        cleaned(cut)


@pytest.mark.parametrize(
    "name", ["in.jsonl", "in.json", "in.zip", "in.tar", "in.tar.gz", "in.txt", "in.jsonl.gz"]
)
def test_empty_inputs_say_so(openchat: RunCli, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".zip"):
        zipped(path, {})
    elif ".tar" in name:
        tarred(path, "w:gz" if name.endswith("gz") else "w", {})
    else:
        path.write_bytes(generator.packed(b"") if name.endswith(".gz") else b"")
    ended = openchat("data", "clean", name, "out", "--quiet")
    assert (ended.returncode, f"{name}: holds no pages and no dumps" in ended.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
    folder = tmp_path / "in"
    folder.mkdir()
    path.rename(folder / name)
    (folder / "a.html").write_bytes(page("a"))
    kept, dropped = cleaned(folder)
    assert (len(kept), dropped) == (1, [])
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert report["ignored_files"] == 1


def test_a_dump_cut_off_inside_its_gzip(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"id": str(n), "messages": MESSAGES}) + "\n" for n in range(2_000))
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(generator.packed(lines.encode())[:-20])
    kept, dropped = cleaned(path)
    assert len(kept) == 1  # all have the same text
    assert dropped[-1]["reason"] == "unreadable"
    assert Counter(row["reason"] for row in dropped)["unreadable"] == 1


# --- folders ---


def test_a_folder_with_what_is_no_file(tmp_path: Path) -> None:
    folder = tree(tmp_path / "in")
    os.mkfifo(folder / "pipe.html")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "device.html").symlink_to("/dev/zero")
    (folder / "self.html").symlink_to("self.html")
    (folder / "gone.json").symlink_to("nowhere")
    kept, dropped = cleaned(folder)
    assert [row["id"] for row in kept] == list(NAMES)
    assert [(row["source"], row["reason"]) for row in dropped] == [
        ("gone.json", "unreadable"),
        ("self.html", "unreadable"),
    ]
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert report["ignored_files"] == 3


def test_odd_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"\xff\xfe.html", b"line\nend.html", b"-q.html", b"a b.HTML", "\u00e9.html".encode()]
    for name in names:
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(page(repr(name)))
    kept, dropped = cleaned(folder)
    assert (len(kept), dropped) == (5, [])
    assert "\\xff\\xfe.html" in [row["source"] for row in kept]


def test_folders_that_link_crosswise_are_walked_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in "abcdef":
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.html").write_bytes(page(name))
    for name in "abcdef":
        for other in "abcdef":
            (folder / name / f"to-{other}").symlink_to(folder / other)
    kept, dropped = cleaned(folder)
    assert (sorted(row["id"] for row in kept), dropped) == (list("abcdef"), [])


def test_a_deep_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    deep = folder.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a.html").write_bytes(page("a"))
    kept, _ = cleaned(folder)
    assert [row["id"] for row in kept] == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize("messages", [2, 20_000])
def test_a_page_of_fifty_megabytes(tmp_path: Path, messages: int) -> None:
    answer = f"<p>{'word ' * 200}</p>" * (25_000_000 // 1007 // (messages // 2))
    question = "word " * (25_000_000 // 5 // (messages // 2))
    folder = tmp_path / "in"
    folder.mkdir()
    turns = [("human", question), ("gpt", answer)] * (messages // 2)
    (folder / "a.html").write_bytes(generator.page(turns, answers_as_html=False))
    started = time.process_time()
    kept, _ = cleaned(folder)
    assert len(kept[0]["messages"]) == messages
    assert time.process_time() - started < 100


@pytest.mark.slow
def test_a_hundred_thousand_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(100_000):
        (folder / f"{number}.html").touch()
    (folder / "a.html").write_bytes(page("a"))
    started = time.process_time()
    found = sum(1 for _ in sources.items(folder))
    assert (found, sources.pages_in(folder)) == (100_001, 100_001)
    assert time.process_time() - started < 10


# --- all at once ---


def test_every_source_in_one_run_for_any_number_of_workers(
    openchat: RunCli, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    folder = tree(tmp_path / "in")
    (folder / "x").mkdir()
    zipped(folder / "x" / "pages.zip", {f"{n}.html": page(f"zip{n}") for n in range(100)})
    tarred(folder / "x" / "pages.tgz", "w:gz", {f"{n}.html": page(f"tar{n}") for n in range(100)})
    lines = [
        {"id": f"row{n}", "messages": [{"role": "user", "content": f"row{n}"}, MESSAGES[1]]}
        for n in range(300)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    (folder / "array.json").write_text(json.dumps(lines[:50]), "utf-8")  # all repeated
    chats = test_export.export()
    (folder / "chatgpt").mkdir()
    (folder / "chatgpt" / "conversations.json").write_text(json.dumps(chats), "utf-8")
    (folder / "saved.html").write_bytes(
        test_saved_pages.saved(test_saved_pages.question(), test_saved_pages.answer())
    )
    table = pyarrow.Table.from_pylist([{**row, "id": f"p{n}"} for n, row in enumerate(lines[:9])])
    parquet.write_table(table, folder / "rows.parquet")
    (folder / "torn.zip").write_bytes(b"PK\3\4 torn")
    counts = {}
    for workers in (1, 3):
        ended = openchat("data", "clean", "in", f"out{workers}", "--workers", workers, "--json")
        assert ended.returncode == 0, ended.stderr
        counts = json.loads(ended.stdout)["counts"]
    for name in ("conversations.jsonl", "dropped.jsonl", "clean.report.json"):
        one, three = ((tmp_path / out / name).read_bytes() for out in ("out1", "out3"))
        assert one == three
    assert counts["kept"] == 5 + 100 + 100 + 300 + 1 + 1
    assert counts["reasons"] == {"unreadable": 1, "not_text": 1, "no_content": 1, "duplicate": 59}
    assert counts["read"] == counts["kept"] + counts["dropped"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_dumps_and_archives(tmp_path: Path) -> None:
    """Eight times the dump, the archive, the export in one line: the same memory."""
    long = {"role": "user", "content": "x" * 20_000}
    asked = {"role": "user", "content": "N"}
    text = json.dumps({"id": "N", "messages": [asked, MESSAGES[1], long]})
    peaks: dict[str, list[int]] = {}
    for count in (500, 4000):
        rows = [text.replace('"N"', f'"{number}"') for number in range(count)]
        (tmp_path / "lines.jsonl").write_text("\n".join(rows), "utf-8")
        (tmp_path / "array.json").write_text(f"[{','.join(rows)}]", "utf-8")
        keyed = ",".join(f'"{number}":{one}' for number, one in enumerate(rows))
        (tmp_path / "keyed.json").write_text(f"{{{keyed}}}", "utf-8")
        members = {f"{n}.json": one.encode() for n, one in enumerate(rows)}
        zipped(tmp_path / "rows.zip", members)
        tarred(tmp_path / "rows.tgz", "w:gz", members)
        for name in ("lines.jsonl", "array.json", "keyed.json", "rows.zip", "rows.tgz"):
            code = (
                "from pathlib import Path; from openchat_cli.cli.main import main;"
                f"main(['data', 'clean', {name!r}, 'out', '--workers', '1', '--force', '--quiet']);"
                "status = Path('/proc/self/status').read_text();"
                "print(status.split('VmHWM:')[1].split()[0])"
            )
            ended = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                check=True,
            )
            peaks.setdefault(name, []).append(int(ended.stdout))
    assert all(large < small + 16_000 for small, large in peaks.values()), peaks  # KiB
