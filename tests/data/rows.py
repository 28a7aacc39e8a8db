"""Conversations and a tokeniser of single bytes, for the tests of `data convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def byte_tokenizer(folder: Path) -> Path:
    """A StarCoder-like tokeniser in which every byte is a token."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(kinds.BPE({char: k for k, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def conversation(name: str, *texts: str, **more: Any) -> dict[str, Any]:
    """A row whose texts are the user's and the assistant's in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[k % 2], "content": text} for k, text in enumerate(texts)]
    head = {"kind": "conversation", "version": 1, "id": name, "source": "s"}
    return {**head, "messages": messages, **more}


def with_system(text: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with a system message before it."""
    return {**row, "messages": [{"role": "system", "content": text}, *row["messages"]]}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    """The rows as JSONL."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def many(count: int) -> list[dict[str, Any]]:
    """Conversations of one exchange."""
    return [
        conversation(f"c{k}", f"question {k}", f"answer <|end_of_turn|> {k} é")
        for k in range(count)
    ]
