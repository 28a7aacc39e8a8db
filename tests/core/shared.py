"""The real data beside a checkout, where there is any: tests that need it are skipped elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_cli.core.records import ROLES, Message

DATA = Path(__file__).parents[3] / "shared" / "data"
TOKENIZERS = DATA / "tokenizers"
CHECKPOINTS = DATA / "checkpoints"

needs_data = pytest.mark.skipif(
    not TOKENIZERS.is_dir(), reason="needs real tokenisers and chats in ../shared/data"
)


def conversations() -> list[list[Message]]:
    """Every conversation of ../shared/data/conversations, whatever its file's format."""
    folder = DATA / "conversations"
    found: list[list[Message]] = []
    for path in sorted(folder.glob("*.jsonl")):
        found += [_messages(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    for path in sorted(folder.glob("*.json")):
        found += [_messages(row) for row in json.loads(path.read_text("utf-8"))]
    for path in sorted(folder.glob("*.txt")):
        found.append([Message("user", path.read_text("utf-8"))])
    return found


def _messages(row: object) -> list[Message]:
    if isinstance(row, str):
        return [Message("user", row)]
    assert isinstance(row, dict)
    if "text" in row:
        parts = re.split(r"<\|(user|bot)\|>: ", row["text"])[1:]
        roles = {"user": "user", "bot": "assistant"}
        return [
            Message(roles[role], text) for role, text in zip(parts[::2], parts[1::2], strict=True)
        ]
    return [
        Message(ROLES.get(item["from"], item["from"]), item["value"])
        for item in row["conversations"]
    ]


def vectors(name: str) -> Iterator[tuple[str, list[int]]]:
    """(text, ids) of the vectors of one tokeniser, "llama-spm" or "refact" (StarCoder's)."""
    stem = TOKENIZERS / "vectors" / f"ggml-vocab-{name}.gguf"
    texts = (
        stem.with_name(stem.name + ".inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    )
    lines = stem.with_name(stem.name + ".out").read_text("utf-8").split("\n")
    for text, line in zip(texts, lines, strict=True):
        yield text, [int(number) for number in line.split()]
