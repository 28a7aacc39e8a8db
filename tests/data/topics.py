"""Conversations about a few topics, in two languages, for embedding and mapping."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl

TOPICS = {
    "cooking": "oven bake flour butter recipe dough sugar yeast pan simmer",
    "python": "function variable list loop class import exception module string tuple",
    "travel": "flight hotel museum beach train passport island tour luggage visa",
}
CHINESE = "做饭 米饭 蔬菜 酱油 炒锅 火候 食材 调味"


def conversation(name: str, *turns: str, **fields: Any) -> dict[str, Any]:
    """A row whose turns alternate, the human first."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return {"kind": "conversation", "version": 1, "id": name, "source": "made", **fields,
            "messages": messages}  # fmt: skip


def about(topic: str, index: int) -> dict[str, Any]:
    """One conversation on a topic, its own and yet the same every time."""
    draw = random.Random(f"{topic} {index}")
    if topic == "chinese":
        said = ["，".join(draw.sample(CHINESE.split(), 4)) for _ in range(2)]
    else:
        said = [" ".join(draw.sample(TOPICS[topic].split(), 6)) for _ in range(2)]
    model = ("Model: GPT-4", "Model: Default (GPT-3.5)", None)[index % 3]
    language = "zh" if topic == "chinese" else "en"
    return conversation(
        f"{topic}-{index}", f"Question {index}: {said[0]}?", f"**Answer**: {said[1]}.",
        model=model, language=language,
    )  # fmt: skip


def mixed(each: int) -> list[dict[str, Any]]:
    """`each` conversations on every topic, topic by topic."""
    return [about(topic, n) for topic in (*TOPICS, "chinese") for n in range(each)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as a file, in a folder of its own if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonl.write_rows(path, rows)
    return path
