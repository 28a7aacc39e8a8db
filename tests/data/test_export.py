"""ChatGPT's own data export: the branch on show, content types, citations, its files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.data.export_text import without_marks
from tests.data.cleaning import MESSAGES, cleaned, cleaned_value, texts


def node(name: str, parent: str | None, role: str, text: Any, **more: Any) -> dict[str, Any]:
    """A node with a message; a text, or the message's whole content."""
    content = text if isinstance(text, dict) else {"content_type": "text", "parts": [text]}
    message = {"id": name, "author": {"role": role}, "content": content, **more}
    return {"id": name, "parent": parent, "children": [], "message": message}


def chat(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A conversation of these nodes after an empty root; the last one is current."""
    mapping = {"root": {"id": "root", "parent": None, "children": [], "message": None}}
    mapping |= {entry["id"]: entry for entry in nodes}
    return {"conversation_id": "c1", "mapping": mapping, "current_node": nodes[-1]["id"], **more}


def line(*messages: tuple[str, Any] | tuple[str, Any, dict[str, Any]]) -> dict[str, Any]:
    """A conversation without branches."""
    nodes: list[dict[str, Any]] = []
    for number, (role, text, *more) in enumerate(messages):
        parent = nodes[-1]["id"] if nodes else "root"
        nodes.append(node(f"n{number}", parent, role, text, **(more[0] if more else {})))
    return chat(*nodes)


def slug(name: str) -> dict[str, Any]:
    return {"metadata": {"model_slug": name}}


def branched() -> dict[str, Any]:
    return chat(
        node("system", "root", "system", ""),
        node("q", "system", "user", "hi"),
        node("old", "q", "assistant", "an answer that was regenerated"),
        node("call", "q", "assistant", "search('x')", recipient="browser"),
        node("tool", "call", "tool", "found"),
        node("a", "tool", "assistant", "**hello**", **slug("gpt-4")),
        title="t",
    )


PICTURE = {
    "content_type": "multimodal_text",
    "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}, "hi"],
}


def export() -> list[dict[str, Any]]:
    drawn = line(("user", PICTURE), ("assistant", "a cat"))
    empty = {"conversation_id": "c3", "mapping": {}, "current_node": None}
    return [branched(), {**drawn, "conversation_id": "c2"}, empty]


def test_a_folder_and_a_zip(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "conversations.json").write_text(json.dumps(export(), indent=1), "utf-8")
    (folder / "chat.html").write_text("<html>the same again</html>", "utf-8")
    for name in ("user", "shared_conversations", "message_feedback", "group_chats"):
        (folder / f"{name}.json").write_text('[{"conversation_id": "x"}]', "utf-8")
    (folder / "file-abc.png").write_bytes(b"\x89PNG")
    kept, dropped = cleaned(folder)
    assert [(row["id"], row["model"], row["messages"]) for row in kept] == [
        ("c1", "gpt-4", MESSAGES)
    ]
    assert [row["reason"] for row in dropped] == ["not_text", "no_content"]

    for top in ("", "export/"):
        archive = tmp_path / "export.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted(folder.iterdir()):
                packed.write(path, top + path.name)
        again, dropped_again = cleaned(archive)
        assert again[0]["messages"] == kept[0]["messages"]
        assert again[0]["source"] == f"export.zip/{top}conversations.json"
        assert len(dropped_again) == 2
        report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
        assert report["ignored_files"] == 6


def test_an_export_in_numbered_files(tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for number in range(12):
            one = {
                **line(("user", str(number)), ("assistant", "x")),
                "conversation_id": str(number),
            }
            packed.writestr(f"conversations-{number:03d}.json", json.dumps([one]))
        packed.writestr("chat.html", "<html></html>")
        packed.writestr("user.json", "{}")
    kept, dropped = cleaned(archive)
    assert ([row["id"] for row in kept], dropped) == ([str(number) for number in range(12)], [])


def test_one_conversation_alone(tmp_path: Path) -> None:
    for indent in (None, 1):
        path = tmp_path / "one.json"
        path.write_text(json.dumps(branched(), indent=indent), "utf-8")
        kept, _ = cleaned(path)
        assert [row["id"] for row in kept] == ["c1"]


# --- the branch ---

Q = node("q", "root", "user", "hi", create_time=1.0)
A = node("a", "q", "assistant", "**hello**", create_time=2.0)
B = node("b", "q", "assistant", "later", create_time=3.0)
BRANCHES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no current node: the newest leaf": (chat(Q, B, A, current_node=None), ["hi", "later"]),
    "a wrong one": (chat(Q, B, A, current_node="gone"), ["hi", "later"]),
    "one that is no text": (chat(Q, B, A, current_node=["a"]), ["hi", "later"]),
    "without times the last leaf": (
        chat(Q, node("b", "q", "assistant", "x"), node("a", "q", "assistant", "y"), current_node=7),
        ["hi", "y"],
    ),
    "an inner node is current": (
        chat(Q, A, node("c", "a", "user", "more"), current_node="a"),
        ["hi", "**hello**"],
    ),
    "a circle": (chat(node("q", "a", "user", "hi"), A), ["hi", "**hello**"]),
    "a parent that is missing": (chat(node("q", "gone", "user", "hi"), A), ["hi", "**hello**"]),
    "several roots": (chat(node("z", None, "user", "other"), Q, A), ["hi", "**hello**"]),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_the_branch(tmp_path: Path, case: str) -> None:
    value, expected = BRANCHES[case]
    (kept,), _ = cleaned_value(tmp_path, [value])
    assert texts(kept) == expected


def test_a_tree_without_messages(tmp_path: Path) -> None:
    odd: list[Any] = [
        {"mapping": {}},
        {"mapping": {"a": None, "b": 7, "c": {"message": None, "parent": ["x"]}}},
        {"mapping": {"a": {"message": {}}}, "current_node": "a"},
        {"mapping": {"a": {"message": {"author": 1, "content": [], "metadata": "x"}}}},
    ]
    _, dropped = cleaned_value(tmp_path, odd)
    reasons = [row["reason"] for row in dropped]
    assert reasons == ["no_content", "no_content", "too_short", "too_short"]


# --- messages ---

SEEN = [("user", "hi"), ("assistant", "**hello**")]
CODE = {"content_type": "code", "language": "python", "text": "print(1)"}
LEFT_OUT: dict[str, Any] = {
    "system": ("system", "You are ChatGPT"),
    "hidden": ("user", "x", {"metadata": {"is_visually_hidden_from_conversation": True}}),
    "custom instructions": (
        "user",
        {"content_type": "user_editable_context", "user_profile": "I am", "user_instructions": ""},
        {"metadata": {"is_user_system_message": True}},
    ),
    "memory": ("assistant", {"content_type": "model_editable_context", "model_set_context": "x"}),
    "weight 0": ("assistant", "x", {"weight": 0.0}),
    "a call": ("assistant", CODE, {"recipient": "python"}),
    "a tool's output": ("tool", {"content_type": "execution_output", "text": "1"}),
    "a quote": ("tool", {"content_type": "tether_quote", "text": "x", "parts": ["x"]}),
    "thoughts": ("assistant", {"content_type": "thoughts", "thoughts": [{"content": "x"}]}),
    "the recap": ("assistant", {"content_type": "reasoning_recap", "content": "Thought for 3 s"}),
    "analysis": ("assistant", "x", {"channel": "analysis"}),
    "nothing": ("assistant", ""),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_messages_that_are_left_out(tmp_path: Path, case: str) -> None:
    extra = LEFT_OUT[case]
    (kept,), _ = cleaned_value(tmp_path, [line(SEEN[0], extra, SEEN[1], ("user", "?"), SEEN[1])])
    assert texts(kept) == ["hi", "**hello**", "?", "**hello**"]


VOICE = {
    "content_type": "multimodal_text",
    "parts": [
        {"content_type": "audio_transcription", "text": "hi", "direction": "in"},
        {"content_type": "audio_asset_pointer", "asset_pointer": "x"},
    ],
}


def test_messages_that_are_texts_in_another_dress(tmp_path: Path) -> None:
    value = line(
        ("user", VOICE),
        ("assistant", "I will run this:"),
        ("assistant", CODE),
        ("user", {"content_type": "multimodal_text", "parts": ["two", "parts"]}),
        ("assistant", {"content_type": "something_new", "parts": ["fine"]}),
    )
    (kept,), _ = cleaned_value(tmp_path, [value])
    assert texts(kept) == [
        "hi",
        "I will run this:\n\n```python\nprint(1)\n```",
        "two\nparts",
        "fine",
    ]


DROPPED: dict[str, tuple[Any, str]] = {
    "a picture": (("user", PICTURE), "not_text"),
    "a drawn picture": (("tool", PICTURE), "not_text"),
    "an attached file": (("user", "hi", {"metadata": {"attachments": [{"id": "f"}]}}), "not_text"),
    "sound": (
        (
            "user",
            {"content_type": "multimodal_text", "parts": [{"content_type": "audio_asset_pointer"}]},
        ),
        "not_text",
    ),
    "a canvas": (
        ("assistant", CODE, {"recipient": "canmore.create_textdoc"}),
        "tool_use",
    ),
}


@pytest.mark.parametrize("case", DROPPED)
def test_conversations_that_are_left_out(tmp_path: Path, case: str) -> None:
    extra, reason = DROPPED[case]
    _, (dropped,) = cleaned_value(tmp_path, [line(SEEN[0], extra, SEEN[1])])
    assert (dropped["reason"], dropped["where"]) == (reason, "item 1, n1")


def test_two_questions_without_an_answer_between(tmp_path: Path) -> None:
    _, (dropped,) = cleaned_value(tmp_path, [line(("user", "a"), ("user", "b"), SEEN[1])])
    assert dropped["reason"] == "not_alternating"


def test_the_model_is_that_of_the_last_answer(tmp_path: Path) -> None:
    mixed = line(
        ("user", "a"),
        ("assistant", "b", slug("text-davinci-002-render-sha")),
        ("user", "c"),
        ("assistant", "d", slug("gpt-4")),
        ("user", "e"),
        ("assistant", "f", slug("auto")),
    )
    plain = {**line(("user", "A"), ("assistant", "b")), "default_model_slug": "gpt-4o"}
    auto = {**line(("user", "B"), ("assistant", "b")), "default_model_slug": "auto"}
    odd = line(("user", "C"), ("assistant", "b", slug(["x"])))  # type: ignore[arg-type]
    kept, _ = cleaned_value(tmp_path, [mixed, plain, auto, odd])
    assert [row["model"] for row in kept] == ["gpt-4", "gpt-4o", None, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris. \ue200cite\ue202turn0search0\ue202turn0search1\ue201 Yes.", "Paris. Yes."),
        ("Paris\ue200cite\ue202turn0file0\ue202L8-L13\ue201.", "Paris."),
        ('In \ue200entity\ue202["city","Paris","in France"]\ue201 now', "In Paris now"),
        ("\ue200entity\ue202broken\ue201x", "x"),
        ("See \ue200url\ue202this page\ue202https://a.b\ue201.", "See this page."),
        ("\ue200navlist\ue202News\ue202turn0news1\ue201\nEnd", "\nEnd"),
        ("\ue200i\ue202turn0image0\ue202turn0image1\ue201Here", "Here"),
        ("\ue203kept\ue204\ue206", "kept"),
        ("a \ue200cite\ue202never ended", "a citenever ended"),
        ("It is so【12†source】 【3:0†a.pdf】.", "It is so."),
        ("【引用】 stays", "【引用】 stays"),
    ],
)
def test_marks_of_citations(text: str, expected: str) -> None:
    assert without_marks(text) == expected


@pytest.mark.parametrize("unit", ["\ue200", " ", "【1†", "\ue200a\ue202", " \ue201"])
def test_marks_take_no_time(unit: str) -> None:
    without_marks("\ue200†" + unit * (1_000_000 // len(unit)))


def test_a_question_keeps_its_marks(tmp_path: Path) -> None:
    (kept,), _ = cleaned_value(tmp_path, [line(("user", "What is 【1†source】?"), SEEN[1])])
    assert texts(kept)[0] == "What is 【1†source】?"
