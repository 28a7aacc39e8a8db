"""The shapes of conversations in JSON: dumps, OpenAI's messages, rows; which answers are HTML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core.errors import InputError
from openchat_cli.data import forms
from tests.data import chatgpt, generator
from tests.data.cleaning import HI, MESSAGES, cleaned, cleaned_value, texts


def sharegpt(html: bool, key: str = "conversations") -> dict[str, Any]:
    answer = chatgpt.page_html(HI[1][1]) if html else HI[1][1]
    return {"id": "a", key: [{"from": "human", "value": "hi"}, {"from": "gpt", "value": answer}]}


def said(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "a", "messages": list(messages), **more}


USER, ASSISTANT = MESSAGES
PART = {"type": "text", "text": "hi"}
SHAPES: dict[str, Any] = {
    "ShareGPT, HTML": sharegpt(True),
    "ShareGPT, Markdown": sharegpt(False),
    "the original's items": sharegpt(True, "items"),
    "OpenAI's messages": said(*MESSAGES),
    "messages in parts": said({"role": "user", "content": [PART]}, ASSISTANT),
    "parts of the Responses API": said(
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "**hello**"}]},
    ),
    "reasoning in parts": said(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "x"},
                {"type": "text", "text": "**hello**"},
            ],
        },
    ),
    "a column called conversation": {"id": "a", "conversation": MESSAGES},
    "messages as JSON in a text": {"id": "a", "messages": json.dumps(MESSAGES)},
    "our own row": {"kind": "conversation", "version": 1, **said(*MESSAGES)},
    "a page's data": json.loads(
        generator.page(HI, name="a").split(b'json">')[1].split(b"</script>")[0]
    ),
    "Alpaca": {"id": "a", "instruction": "hi", "input": "", "output": "**hello**"},
    "prompt and completion": {"id": "a", "prompt": "hi", "completion": "**hello**"},
    "prompt and completion as messages": {"id": "a", "prompt": [USER], "completion": [ASSISTANT]},
    "marks in a text": {"id": "a", "text": "\n<|user|>: hi\n\n<|bot|>: **hello**\n\n"},
    "other keys": {
        "id": "a",
        "items": [
            {"from": "user", "text": "hi"},
            {"from": "chatgpt", "value": None, "markdown": "**hello**"},
        ],
    },
    "a null refusal": said(USER, {**ASSISTANT, "refusal": None, "tool_calls": None, "name": "x"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str) -> None:
    kept, dropped = cleaned_value(tmp_path, [SHAPES[shape]])
    assert dropped == []
    assert (kept[0]["id"], kept[0]["messages"]) == ("a", MESSAGES)


@pytest.mark.parametrize("name", ["gpt", "chatgpt", "bing", "bard", "assistant", "GPT", "bot"])
def test_names_of_the_one_who_answers(tmp_path: Path, name: str) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": name, "value": "x"}]
    kept, _ = cleaned_value(tmp_path, [{"items": turns}])
    assert [message["role"] for message in kept[0]["messages"]] == ["user", "assistant"]
    assert len(kept[0]["id"]) == 32


def test_our_own_rows_are_verbatim(tmp_path: Path) -> None:
    messages = [USER, {"role": "assistant", "content": "<p>Hi</p>"}]
    row = {"kind": "conversation", "version": 1, "id": "a", "messages": messages}
    (kept,), _ = cleaned_value(tmp_path, [row])
    assert kept["messages"] == messages


def test_what_is_carried(tmp_path: Path) -> None:
    row = said(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In English."},
        USER,
        {**ASSISTANT, "weight": 0},
        {"role": "user", "content": "more"},
        {"role": "assistant", "content": None, "refusal": "I can't."},
        model="gpt-4o",
        lang="en",
        weight=0.5,
        tools=[{"type": "function"}],
    )
    (kept,), _ = cleaned_value(tmp_path, [row])
    assert texts(kept) == ["Be brief.\n\nIn English.", "hi", "**hello**", "more", "I can't."]
    assert (kept["model"], kept["language"], kept["weight"]) == ("gpt-4o", "en", 0.5)
    assert [message.get("weight") for message in kept["messages"]] == [None, None, 0, None, None]


def test_alpaca_rows_with_history(tmp_path: Path) -> None:
    row = {
        "instruction": "Sum up",
        "input": "a text",
        "output": "short",
        "system": "Be brief.",
        "history": [["hello", "hi"]],
    }
    (kept,), _ = cleaned_value(tmp_path, [row])
    assert texts(kept) == ["Be brief.", "hello", "hi", "Sum up\n\na text", "short"]


CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
DROPPED: dict[str, tuple[list[Any], str, str]] = {
    "a call": ([USER, CALL, {"role": "tool", "content": "4"}, ASSISTANT], "tool_use", "turn 2"),
    "an old call": ([USER, {**ASSISTANT, "function_call": {"name": "f"}}], "tool_use", "turn 2"),
    "a tool's turn": ([USER, {"from": "observation", "value": "4"}], "tool_use", "turn 2"),
    "a picture": ([{"role": "user", "content": [PART, PICTURE]}, ASSISTANT], "not_text", "turn 1"),
    "sound": ([USER, {"role": "assistant", "audio": {"id": "x"}}], "not_text", "turn 2"),
    "no text": ([USER, {"role": "assistant", "content": None}], "bad_turn", "turn 2"),
    "a number": ([USER, {"role": "assistant", "content": 7}], "bad_turn", "turn 2"),
    "no role": ([USER, {"content": "x"}], "bad_turn", "turn 2"),
    "no object": ([USER, "x"], "bad_turn", "turn 2"),
    "a late system": (
        [USER, ASSISTANT, {"role": "system", "content": "x"}, USER, ASSISTANT],
        "not_alternating",
        "turn 3",
    ),
}


@pytest.mark.parametrize("case", DROPPED)
def test_what_is_left_out_and_where(tmp_path: Path, case: str) -> None:
    entries, reason, where = DROPPED[case]
    _, (row,) = cleaned_value(tmp_path, [said(*entries)])
    assert (row["reason"], row["where"], row["id"]) == (reason, f"item 1, {where}", "a")


@pytest.mark.parametrize(
    "model", [None, "", 7, True, ["gpt-4"], {"name": "gpt-4"}, "hi", "two\nlines", "x" * 300]
)
def test_a_model_that_is_none(tmp_path: Path, model: object) -> None:
    (kept,), _ = cleaned_value(tmp_path, [said(*MESSAGES, model=model)])
    assert kept["model"] is None
    report = json.loads((tmp_path / "out" / "clean.report.json").read_text("utf-8"))
    assert report["models_missing"] + report["models_not_credible"] == 1


def test_a_model_whose_name_begins_the_first_message(tmp_path: Path) -> None:
    row = said({"role": "user", "content": "GPT-4 is great"}, ASSISTANT, model="GPT-4")
    (kept,), _ = cleaned_value(tmp_path, [row])
    assert kept["model"] == "GPT-4"


# --- HTML or Markdown ---

HTML = {
    "ChatGPT's element": '<div class="markdown prose w-full"><p>Hi <b>x</b></p></div>',
    "the same with a pager": '2 / 2<div class="markdown prose w-full"><p>Hi</p></div>',
    "the same cut off": '<div class="markdown prose w-full"><p>Hi',
    "an old element": '<div class="min-h-[20px] flex whitespace-pre-wrap"><p>Hi</p></div>',
    "paragraphs": "<p>One</p><p>Two <code>x &lt; y</code></p>",
    "several elements": "<p>One</p><pre><code>a\n    <span>b</span>\n</code></pre>\n"
    "<ul>\n<li>x</li>\n</ul>",
    "a table": "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody>"
    "</table>",
    "a heading first": "<h2>Title</h2>\n<p>text<br>more</p>\n<hr>",
}
MARKDOWN = {
    "plain": "Hello",
    "Markdown": "# Title\n\n- **a**",
    "a comparison": "<5 is less than ten> really",
    "a fence": "```html\n<p>Hi</p>\n```",
    "code, then text": '<p class="x">Hi</p>\n\nThis is a paragraph.',
    "text, then code": "Use this:\n\n<p>Hi</p>",
    "code between fences": "<div>\n```\nx\n```\n</div>",
    "a whole document": "<!DOCTYPE html>\n<html><body><p>Hi</p></body></html>",
    "indented code": "<div>\n  <p>Hi</p>\n  <p>Ho</p>\n</div>",
    "a form": '<div><form action="/x"><input name="a"></form></div>',
    "a script": "<div><script>alert(1)</script></div>",
    "an id": '<div id="app"><p>Hi</p></div>',
    "an autolink": "<https://example.org>",
    "two examples": "<p>one</p> and <p>two</p>",
    "a component": "<div><MyButton>Hi</MyButton></div>",
}


@pytest.mark.parametrize("case", HTML)
def test_an_answer_that_is_html(case: str) -> None:
    assert forms.is_html(HTML[case])


@pytest.mark.parametrize("case", MARKDOWN)
def test_an_answer_that_is_markdown(case: str) -> None:
    assert not forms.is_html(MARKDOWN[case])


@pytest.mark.parametrize(
    "unit", ["<p>", "<pre>", "<p ", "<div class='", ">\n    ", '<div class="markdown ', "<p></p>"]
)
def test_telling_html_takes_no_time(unit: str) -> None:
    forms.is_html("<p>" + unit * (1_000_000 // len(unit)) + ">")


def test_forms_may_differ_within_a_conversation(tmp_path: Path) -> None:
    human = '<div class="x"> <b>what</b> is &lt;this&gt;?</div>'
    code = "<div>\n  <p>code</p>\n</div>"
    values = [human, HTML["several elements"], "and?", code, "ok", "plain *text*"]
    turns = [
        {"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(values)
    ]
    (kept,), _ = cleaned_value(tmp_path, [{"conversations": turns}])
    found = texts(kept)
    assert (found[0], found[3], found[5]) == (human, code, "plain *text*")
    assert found[1] == "One\n\n```\na\n    b\n```\n\n- x"


# --- whole files ---


def test_dumps_in_one_object(tmp_path: Path) -> None:
    chat = sharegpt(False)
    other = {"conversations": [{"from": "human", "value": "ho"}, chat["conversations"][1]]}
    keyed = {"first": {"title": "t", **other}, "second": chat["conversations"], "third": {}}
    kept, dropped = cleaned_value(tmp_path, keyed)
    assert [row["id"] for row in kept] == ["first", "second"]
    assert [row["reason"] for row in dropped] == ["unknown_shape"]
    for wrapped in (
        {"version": 1, "name": "x", "data": [chat, other]},
        {"conversations": [chat, other]},
    ):
        kept, dropped = cleaned_value(tmp_path, wrapped)
        assert (len(kept), dropped) == (2, [])
    for one in (chat, chat["conversations"], [chat["conversations"]]):
        kept, dropped = cleaned_value(tmp_path, one)
        assert (len(kept), dropped) == (1, [])


def test_a_row_with_an_object_before_its_messages_is_one_row(tmp_path: Path) -> None:
    row = {"metadata": {"a": {"b": [1]}}, "list": [1, {"x": 2}], **said(*MESSAGES)}
    for text in (json.dumps(row), json.dumps(row, indent=1), json.dumps(row) + "\n" + "{}"):
        path = tmp_path / "dump.jsonl"
        path.write_text(text, "utf-8")
        kept, _ = cleaned(path)
        assert [found["id"] for found in kept] == ["a"]


def test_what_comes_after_something_broken(tmp_path: Path) -> None:
    row = json.dumps(said(*MESSAGES))
    other = row.replace('"hi"', '"ho"').replace('"a"', '"b"')
    path = tmp_path / "dump.json"
    broken_inside = '{"messages": [{"role" "user"}]}'
    for text in (
        f"{row[:50]}\n{row}\n{other}\n",
        f"{row}\n{row[:50]}\n{other}\n",
        f"[\n{broken_inside},\n{row},\n{other}\n]",
        f"[\n  {row},\n  {broken_inside},\n  {other}\n]",
    ):
        path.write_text(text, "utf-8")
        kept, dropped = cleaned(path)
        assert [found["id"] for found in kept] == ["a", "b"]
        assert [found["reason"] for found in dropped] == ["bad_json"]


def chat(human: str, gpt: str, more: str = "") -> str:
    """A row as it stands in a file; the texts are JSON already."""
    turns = (("user", human), ("gpt", gpt))
    inner = ", ".join(f'{{"role": "{role}", "content": "{text}"{more}}}' for role, text in turns)
    return f'{{"messages": [{inner}]}}'


ODD: dict[str, tuple[str, str | None]] = {
    "surrogates": (chat("\\ud83d", "\\ud83d\\ude00"), None),
    "no messages": ('{"id": "%s"}', "unknown_shape"),
    "NaN": (chat("a", "b\\u0000", ', "weight": NaN').replace("{", '{"id": NaN, ', 1), None),
    "infinity": (chat("a", "b").replace("{", '{"weight": Infinity, ', 1), None),
    "a huge number": ('{"id": ' + "9" * 5000 + ', "messages": []}', "bad_json"),
    "twice the key": (chat("a", "b").replace("{", '{"messages": [], ', 1), None),
    "deep": ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", "bad_json"),
    "NUL": (chat("\x00", "b"), "bad_json"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_json_is_one_row_or_one_drop(tmp_path: Path, case: str) -> None:
    value, reason = ODD[case]
    good = json.dumps({"messages": MESSAGES, "id": "good"})
    path = tmp_path / "dump.json"
    for text in (f"{value}\n{good}\n", f"[\n{value},\n{good}]"):
        path.write_text(text, "utf-8")
        kept, dropped = cleaned(path)
        assert "good" in [row["id"] for row in kept]
        assert [row["reason"] for row in dropped] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"kind": "dropped", "version": 1, "reason": "x"}\n' * 3, "dropped pages"),
        (b'{"kind": "question", "version": 1, "question_id": "1"}\n' * 3, "questions"),
        (b'{"question_id": 1, "text": "What?", "category": "x"}\n' * 3, "questions"),
        (b'{"question_id": 1, "answer_id": "x", "text": "That."}\n' * 3, "answers"),
        (b'{\n "kind": "clean_report",\n "version": 1\n}', "a report"),
        (b"[[[1, 2], [true, false]], [[3], [true]]]", "a token dataset"),
        (b'["one", "two"]', "texts without roles"),
        (b"[1, 2]", "no conversations"),
        (b"What is this?", "plain text"),
        (b"<s> Human: hi", "plain text"),
        (b"\x89PNG\r\n\x1a\n\0\0", "binary data"),
        (b"17", "no JSON object or list"),
    ],
)
def test_a_file_of_another_kind_is_named_once(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"in.json: holds {says}"):
        cleaned(path)
    folder = tmp_path / "in"
    folder.mkdir()
    path.rename(folder / "x.json")
    (folder / "good.json").write_text(json.dumps(said(*MESSAGES)), "utf-8")
    kept, dropped = cleaned(folder)
    assert len(kept) == 1
    assert [(row["source"], row["reason"]) for row in dropped] == [("x.json", "unknown_shape")]
    assert says in dropped[0]["detail"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_codings_have_a_reason(tmp_path: Path, coding: str) -> None:
    path = tmp_path / "dump.jsonl"
    row = json.dumps({"messages": [{"role": "user", "content": "\xe9"}]}, ensure_ascii=False)
    path.write_bytes(row.encode(coding))
    _, (dropped,) = cleaned(path)
    assert dropped["reason"] == "not_utf8"


def test_the_real_samples(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (shared_data / "conversations").glob("*.json*"):
        (folder / path.name).symlink_to(path)
    kept, dropped = cleaned(folder)
    assert len(kept) > 780
    assert {row["reason"] for row in dropped} <= {
        *("unknown_shape", "too_short", "not_alternating"),
        *("empty_answer", "blocked_word", "duplicate"),
    }
    assert [row["source"] for row in dropped if row["reason"] == "unknown_shape"] == [
        "openchat_ipynb_gpt4_first_prompts.json"
    ]
    assert not any(
        "Copy code" in text or "</div>" in text
        for row in kept
        for text in texts(row)
        if row["source"].startswith("chatgpt_html")
    )
