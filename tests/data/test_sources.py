"""Every form in which chats come, told apart by itself, in any wrapping."""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.errors import InputError
from openchat_cli.data import dumps
from openchat_cli.data.clean import clean
from openchat_cli.data.settings import CleanSettings
from openchat_cli.data.worker import Item
from tests.data import chatgpt, generator
from tests.data.test_clean import OUTPUTS, rows

HI = [("human", "hi"), ("gpt", "**hello**")]
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "**hello**"}]


def cleaned(source: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(kept rows, dropped rows)"""
    out = source.parent / "out"
    clean(CleanSettings(source, out, force=True))
    return rows(out / OUTPUTS[1]), rows(out / OUTPUTS[2])


def sharegpt(html: bool, key: str = "conversations") -> dict[str, Any]:
    answer = chatgpt.page_html(HI[1][1]) if html else HI[1][1]
    return {"id": "a", key: [{"from": "human", "value": "hi"}, {"from": "gpt", "value": answer}]}


SHAPES: dict[str, Any] = {
    "ShareGPT, HTML": sharegpt(True),
    "ShareGPT, Markdown": sharegpt(False),
    "the original's items": sharegpt(True, "items"),
    "OpenAI's messages": {"id": "a", "messages": MESSAGES},
    "messages in parts": {
        "id": "a",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            MESSAGES[1],
        ],
    },
    "our own row": {"kind": "conversation", "version": 1, "id": "a", "messages": MESSAGES},
    "a page's data": json.loads(
        generator.page(HI, name="a").split(b'json">')[1].split(b"</script>")[0]
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "dump.json"
    path.write_text(json.dumps([SHAPES[shape]]), "utf-8")
    kept, dropped = cleaned(path)
    assert dropped == []
    assert (kept[0]["id"], kept[0]["messages"]) == ("a", MESSAGES)


def node(name: str, parent: str | None, role: str, text: Any, **more: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": [text]}
    message = {"id": name, "author": {"role": role}, "content": content, **more}
    return {"id": name, "parent": parent, "children": [], "message": message}


def export() -> list[dict[str, Any]]:
    slug = {"metadata": {"model_slug": "gpt-4"}}
    nodes = [
        node("system", "root", "system", ""),
        node("q", "system", "user", "hi"),
        node("old", "q", "assistant", "an answer that was regenerated"),
        node("call", "q", "assistant", "search('x')", recipient="browser"),
        node("tool", "call", "tool", "found"),
        node("a", "tool", "assistant", "**hello**", **slug),
    ]
    mapping = {entry["id"]: entry for entry in nodes}
    mapping["root"] = {"id": "root", "parent": None, "children": ["system"], "message": None}
    chat = {"title": "t", "conversation_id": "c1", "mapping": mapping, "current_node": "a"}
    picture = node("q2", None, "user", {"asset_pointer": "file"})
    picture["message"]["content"]["content_type"] = "multimodal_text"
    drawn = {"conversation_id": "c2", "mapping": {"q2": picture}, "current_node": "q2"}
    return [chat, drawn, {"conversation_id": "c3", "mapping": {}, "current_node": None}]


def test_chatgpt_export(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "conversations.json").write_text(json.dumps(export(), indent=1), "utf-8")
    (folder / "chat.html").write_text("<html>the same again</html>", "utf-8")
    (folder / "user.json").write_text("{}", "utf-8")
    kept, dropped = cleaned(folder)
    assert [(row["id"], row["model"], row["messages"]) for row in kept] == [
        ("c1", "gpt-4", MESSAGES)
    ]
    assert [row["reason"] for row in dropped] == ["not_text", "no_content"]

    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)
    again, dropped_again = cleaned(archive)
    assert again[0]["messages"] == kept[0]["messages"]
    assert again[0]["source"] == "export.zip/conversations.json"
    assert len(dropped_again) == 2


def test_pages_in_every_wrapping_are_one_run(tmp_path: Path) -> None:
    def page(name: str) -> bytes:
        return generator.page([("human", name), ("gpt", "x")], name=name)

    folder = tmp_path / "in"
    (folder / "ShareGPT" / "deep").mkdir(parents=True)
    (folder / "ShareGPT" / "b.html").write_bytes(page("b"))
    (folder / "ShareGPT" / "deep" / "c.htm").write_bytes(page("c"))
    (folder / "ShareGPT" / "a.html.gz").write_bytes(generator.packed(page("a")))
    (folder / "ShareGPT" / ".hidden.html").write_bytes(page("hidden"))
    (folder / "notes.txt").write_text("not a chat", "utf-8")
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
    assert [row["id"] for row in kept] == ["a", "b", "c", "row", "zip1", "zip2", "t1", "t2"]
    report = json.loads((tmp_path / "out" / OUTPUTS[0]).read_text("utf-8"))
    assert (report["read"], report["ignored_files"]) == (8, 2)


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
        ("b.zip", "", "unreadable"),
        ("c.tar", "", "unreadable"),
        ("d.jsonl", "line 1", "unknown_shape"),
        ("d.jsonl", "line 2", "bad_json"),
        ("d.jsonl", "line 3", "too_short"),
        ("d.jsonl", "line 4", "unknown_shape"),
        ("e.json", "item 1", "unknown_shape"),
        ("e.json", "item 2, turn 1", "bad_turn"),
        ("e.json", "item 3", "bad_json"),
        ("f.jsonl.gz", "", "unreadable"),
        ("g.json", "item 1", "not_utf8"),
    ]


def test_the_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dropped.jsonl"
    row = {"kind": "dropped", "version": 1, "id": None, "source": "s", "where": "", "reason": "r"}
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(InputError, match="holds dropped pages"):
        cleaned(path)


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
