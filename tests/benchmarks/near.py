"""How well near duplicates are told apart, and what that costs: `python tests/benchmarks/near.py`.

Real conversations (../shared/data, where it is there; else made-up ones), each changed in a known
way, are looked for among all of them. What is found is recall; a conversation that repeats none and
is dropped is a mistake. CPU seconds of one process.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from openchat_cli.core.records import Message
from openchat_cli.data import near
from tests.data import faults

REAL = Path(__file__).parents[3] / "shared" / "data" / "conversations"
THRESHOLDS = (0.7, 0.8, 0.9)
_PARTS = re.compile(r"[\u3040-\u9fff]|[^\u3040-\u9fff\s]+|\s+")

Items = list[tuple[str, str]]


def conversations() -> dict[str, list[Items]]:
    found: dict[str, list[Items]] = {}
    for name, file in (("English", "sharegpt_en_506.jsonl"), ("Chinese", "sharegpt_zh_300.jsonl")):
        if (REAL / file).is_file():
            rows = map(json.loads, (REAL / file).read_text("utf-8").splitlines())
            found[name] = [
                [(turn["from"], turn["value"]) for turn in row["conversations"]] for row in rows
            ]
    made = (one.items for one in faults.planted(300, seed=1) if one.repeats is None)
    return found or {"made-up": list(made)}


def edited(share: float) -> Callable[[Items, random.Random], Items]:
    """Each word (or Chinese character) replaced with that probability by another of the text."""

    def change(items: Items, chance: random.Random) -> Items:
        changed = []
        for role, text in items:
            parts = _PARTS.findall(text)
            words = [part for part in parts if not part.isspace()]
            others = [
                chance.choice(words) if not part.isspace() and chance.random() < share else part
                for part in parts
            ]
            changed.append((role, "".join(others)))
        return changed

    return change


def case_and_punctuation(items: Items, chance: random.Random) -> Items:
    return [(role, re.sub(r"[，。！]|[,.!](?=\s|$)", "", text).upper()) for role, text in items]


def goes_on(items: Items, chance: random.Random) -> Items:
    return [*items, ("human", "Thanks!"), ("gpt", "You are welcome!")]


CHANGES = {
    "1 % of the words": edited(0.01),
    "2 % of the words": edited(0.02),
    "5 % of the words": edited(0.05),
    "10 % of the words": edited(0.10),
    "30 % of the words": edited(0.30),
    "case and punctuation": case_and_punctuation,
    "two turns more": goes_on,
}


def signature(items: Items) -> bytes:
    return near.signature(
        Message("user" if role == "human" else "gpt", text) for role, text in items
    )


def recall(base: list[Items], threshold: float) -> tuple[int, dict[str, float]]:
    """(conversations taken for repeats of others, share found of each change)."""
    index = near.Index(threshold)
    repeats = 0
    kept: list[tuple[str, Items]] = []
    for number, items in enumerate(base):
        own = signature(items)
        if index.find(own):
            repeats += 1
        else:
            index.add(str(number), own)
            kept.append((str(number), items))
    shares: dict[str, float] = {}
    for name, change in CHANGES.items():
        chance = random.Random(7)
        hits = 0
        for own_name, items in kept:
            found = index.find(signature(change(items, chance)))
            hits += found is not None and found[0] == own_name
        shares[name] = hits / len(kept)
    return repeats, shares


def cost(base: list[Items]) -> None:
    began = time.process_time()
    signatures = [signature(items) for items in base]
    each = (time.process_time() - began) / len(base)
    size = sum(len(text) for items in base for _, text in items) / len(base)
    print(f"signatures: {1000 * each:.2f} s for 1,000 conversations of {size:,.0f} characters")
    index = near.Index(0.8)
    count = 20_000
    chance = random.Random(1)
    before, began = _resident(), time.process_time()
    for number in range(count):
        own = chance.randbytes(len(signatures[0]))
        index.find(own)
        index.add(f"conversation{number}", own)
    seconds = time.process_time() - began
    print(f"index: {1000 * seconds / count:.3f} s for 1,000 conversations")
    if before:
        print(f"index: {(_resident() - before) / count / 1000:.2f} kB for each conversation")


def _resident() -> int:
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    for name, base in conversations().items():
        print(f"{name}: {len(base)} conversations")
        for threshold in THRESHOLDS:
            repeats, shares = recall(base, threshold)
            print(f"  {threshold}: {repeats} repeat an earlier one as they are")
            for change, share in shares.items():
                print(f"    {change:22} {100 * share:5.1f} % found")
        cost(base)


if __name__ == "__main__":
    main()
