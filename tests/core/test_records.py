"""Rows that cross a stage: round trips, the shapes of 2023, and the wrong file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core import records
from openchat_cli.core.errors import InputError
from openchat_cli.core.records import (
    Answer,
    Conversation,
    Dropped,
    Judgment,
    Message,
    Question,
)

EXAMPLES: list[Any] = [
    Conversation(
        "c1", "a.html", (Message("user", "hi"), Message("assistant", "yo", 0.5)), "GPT-4", "en"
    ),
    Dropped(None, "a.html", "a.html", "not-html", None, "no tag"),
    Question("q1", "math", ("1+1?", "and 2+2?"), ("2", "4")),
    Answer("q1", "a1", "m", ("2",), 1, ("stop",), {"prompt_tokens": 3}, "abc", None),
    Judgment(
        *("q1", "pairwise", "model_first", 0, "m", "b", "a1", "b1", 8.0, 7.5, "win", "ok"),
        *("text", "judge", "hash", None, "2023-07-01T00:00:00Z"),
    ),
]


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: record.kind)
def test_round_trip(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "rows.jsonl"
    records.write(path, [record, record])
    assert list(records.read(path, type(record))) == [record, record]
    row = json.loads(path.read_text().splitlines()[0])
    assert list(row)[:2] == ["kind", "version"]
    assert (row["kind"], row["version"]) == (record.kind, 1)


def test_the_originals_shapes_are_read(tmp_path: Path) -> None:
    old = write(
        tmp_path / "old.jsonl",
        {"id": "x", "items": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    )
    (conversation,) = records.read(old, Conversation)
    assert conversation.messages == (Message("user", "a"), Message("assistant", "b"))
    vicuna = write(tmp_path / "q.jsonl", {"question_id": 1, "text": "Why?", "category": "generic"})
    assert list(records.read(vicuna, Question)) == [Question("1", "generic", ("Why?",))]
    fastchat = write(
        tmp_path / "a.jsonl",
        {
            "question_id": 1,
            "answer_id": "z",
            "model_id": "vicuna",
            "text": "Since.",
            "metadata": {},
        },
    )
    assert list(records.read(fastchat, Answer)) == [Answer("1", "z", "vicuna", ("Since.",))]


def test_the_wrong_file_is_named_with_what_makes_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "judgments.jsonl"
    records.write(path, [EXAMPLES[-1]])
    with pytest.raises(InputError) as caught:
        list(records.read(path, Conversation))
    assert caught.value.message == f"{path}: holds judgments, conversations were expected"
    assert caught.value.hint == "made by: openchat data clean INPUT OUT"


def test_rows_of_no_known_shape(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"hello": 1})
    with pytest.raises(InputError, match="holds rows of another shape, conversations were"):
        list(records.read(path, Conversation))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", "<!DOCTYPE html>\n<html>", "a web page"),
        ("openchat.train.json", "[\n[[1],[true]]\n]\n", "a token dataset"),
        ("openchat.eval.text.json", '[\n"x"\n]\n', "a token dataset's texts"),
        ("openchat.dataset.json", '{\n  "kind": "dataset"\n}\n', "a token dataset's manifest"),
        ("clean.report.json", '{\n  "kind": "clean_report"\n}\n', "a report"),
        ("old.json", "[[[1],[true]]]", "one JSON list"),
        ("some.json", '{\n"a": 1\n}\n', "one JSON object over several lines"),
    ],
)
def test_a_file_without_rows_is_named_too(tmp_path: Path, name: str, text: str, found: str) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        list(records.read(path, Conversation))
    assert caught.value.message == f"{path}: holds {found}, conversations were expected"
    assert caught.value.hint == "made by: openchat data clean INPUT OUT"


def test_a_file_that_is_cut_off_is_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"kind": "conversation", "mess', "utf-8")
    with pytest.raises(InputError, match=":1: not JSON"):
        list(records.read(path, Conversation))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": "hi"}, "'messages' must be a list"),
        ({"messages": [1]}, "message 0 must be an object"),
        ({"messages": [{"role": "user", "content": None}]}, "message 0 needs the texts"),
        ({"weight": "heavy"}, "'weight' must be a number"),
        ({"version": 2}, "rows of version 2"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    good = EXAMPLES[0].to_row()
    path = write(tmp_path / "rows.jsonl", good, {**good, **change})
    with pytest.raises(InputError, match="rows.jsonl") as caught:
        list(records.read(path, Conversation))
    assert words in caught.value.message
