"""Conversations to measure on: real ones where they lie beside the project, else made-up ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"

_WORDS = 30_000
_FRESH = 0.03  # the share of words that come once


def made(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Conversations of some 600 tokens whose words are as unevenly frequent as in a language."""
    rng = random.Random(seed)
    words = [_word(rng) for _ in range(_WORDS)]
    weights = list(accumulate(1 / (rank + 5) for rank in range(_WORDS)))
    for number in range(count):
        messages = []
        for turn in range(2 * rng.randrange(1, 4)):
            chosen = rng.choices(words, cum_weights=weights, k=rng.randrange(10, 160))
            fresh = (_word(rng) for _ in range(int(len(chosen) * _FRESH)))
            text = " ".join([*chosen, *fresh]) + ".\n"
            messages.append({"role": ("user", "assistant")[turn % 2], "content": text})
        yield row(f"made-{number}", messages)


def _word(rng: random.Random) -> str:
    return "".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randrange(2, 11)))


def row(name: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    """A conversation row."""
    head = {"kind": "conversation", "version": 1, "id": name, "source": "benchmark"}
    return {**head, "language": "en", "messages": messages}


def real() -> Iterator[dict[str, Any]]:
    """The real conversations beside the project, each once; those of the judges' data too."""
    roles = {"human": "user", "gpt": "assistant"}
    for path in sorted((SHARED / "conversations").glob("*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines()):
            turns = json.loads(line)["conversations"]
            while turns and turns[0]["from"] != "human":
                turns = turns[1:]
            if len(turns) > 1:
                messages = [{"role": roles[t["from"]], "content": t["value"]} for t in turns]
                yield row(f"{path.stem}-{number}", messages)


def write(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows as JSONL; gives how many."""
    with path.open("w", encoding="utf-8") as stream:
        return sum(bool(stream.write(json.dumps(one, ensure_ascii=False) + "\n")) for one in rows)
