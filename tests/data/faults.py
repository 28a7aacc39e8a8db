"""Candidates with faults that the generator's pages lack, each with the verdict that is right."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

from tests.data import generator

Items = list[tuple[str, str]]


@dataclass(frozen=True)
class Truth:
    """What must become of one candidate: its reason (None: kept), the kept one that it repeats."""

    source: str
    where: str
    reason: str | None
    kept_id: str | None = None
    id: str | None = None  # of a kept one, where it is known


def fill(folder: Path, count: int, *, seed: int) -> list[Truth]:
    """The generator's pages and, after each fifth, a fault; the truth in the order of the input."""
    folder.mkdir(parents=True)
    chance = random.Random(seed)
    truths: list[Truth] = []
    ids: dict[tuple[tuple[str, str], ...], str] = {}
    made = generator.pages(count, seed=seed)
    for number, entry in enumerate(made):
        (folder / entry.name).write_bytes(entry.data)
        name = f"id{number}"
        kept_id = ids.get(entry.messages) if entry.reason == "duplicate" else None
        if entry.reason is None:
            ids[entry.messages] = name
        truths.append(Truth(entry.name, "", entry.reason, kept_id, name))
        if number % 5 == 4:
            truths.append(_fault(folder, number, chance))
    return truths + _dump(folder)


def _fault(folder: Path, number: int, chance: random.Random) -> Truth:
    """One more page whose name comes right after that of page `number`."""
    kind = _FAULTS[number // 5 % len(_FAULTS)]
    name = f"{number:06d}{'.html.gz' if kind == 'torn' else 'x.html'}"
    where = folder / name
    ask = ("human", f"What is number {number}?")
    if kind == "torn":
        where.write_bytes(generator.packed(generator.page([ask, ("gpt", "It.")]))[:-9])
        return Truth(name, "", "unreadable")
    if kind == "nowhere":
        where.symlink_to("absent")
        return Truth(name, "", "unreadable")
    items, reason = _items(kind, ask, chance)
    page = generator.page(items, name=f"fault{number}", answers_as_html=kind not in _AS_IT_IS)
    where.write_bytes(page)
    return Truth(name, "", reason, id=f"fault{number}")


_FAULTS = (
    *("torn", "nowhere", "two leading", "two trailing", "two questions", "two answers"),
    *("blank", "zero width", "picture", "only a button", "stranger", "system", "system late"),
    *("empty question", "folded word", "parted word", "one turn", "no turn", "word in a picture"),
)
_AS_IT_IS = ("picture", "only a button", "parted word", "word in a picture")
_BUTTON = '<pre><div><span></span><button>Copy code</button><code class="hljs"></code></div></pre>'
_PICTURE = '<p><img src="https://openai.com/a.png" alt=""></p>'


def _items(kind: str, ask: tuple[str, str], chance: random.Random) -> tuple[Items, str | None]:
    """The turns of a page and the reason for which it must be dropped."""
    say = ("gpt", f"It is {chance.random()}.")
    return {
        "two leading": ([say, say, ask, say], "not_alternating"),
        "two trailing": ([ask, say, ask, ask], "not_alternating"),
        "two questions": ([ask, say, ask, ask, say], "not_alternating"),
        "two answers": ([ask, say, say, ask, say], "not_alternating"),
        "blank": ([ask, say, ask, ("gpt", " \n\t ")], "empty_answer"),
        "zero width": ([ask, ("gpt", "\u200b\ufeff\u2060\u00ad")], "empty_answer"),
        "picture": ([ask, ("gpt", _PICTURE)], "empty_answer"),
        "only a button": ([ask, ("gpt", _BUTTON)], "empty_answer"),
        "stranger": ([ask, ("critic", "Hm.")], "not_alternating"),
        "system": ([("system", "Be brief."), ask, say], None),
        "system late": ([ask, say, ("system", "Be brief."), say], "not_alternating"),
        "empty question": ([("human", ""), say, ask, say], None),
        "folded word": ([ask, ("gpt", "I am by OPENAI.")], "blocked_word"),
        "parted word": ([ask, ("gpt", f"<p>It is open</p><p>AI is {say[1]}</p>")], None),
        "one turn": ([ask], "too_short"),
        "no turn": ([], "too_short"),
        "word in a picture": ([ask, ("gpt", f"<p>{say[1]}</p>{_PICTURE}")], None),
    }[kind]


def _dump(folder: Path) -> list[Truth]:
    """A dump after all pages: rows without a shape, a role or a text, and ids that are taken."""
    two = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "This one."}]
    other = [*two, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Since it is."}]
    rows: list[tuple[object, str | None, str | None, str | None]] = [
        ({"id": "taken", "conversations": two}, None, None, "taken"),
        ({"id": "taken", "conversations": other}, None, None, None),
        ({"id": "third", "conversations": two}, "duplicate", "taken", None),
        ({"id": "x", "title": "nothing else"}, "unknown_shape", None, None),
        (["no", "turns"], "bad_turn", None, None),
        ({"id": "y", "conversations": [{"from": "human"}, two[1]]}, "bad_turn", None, None),
        ({"id": "z", "conversations": [{"value": "?"}, two[1]]}, "bad_turn", None, None),
    ]
    lines = [json.dumps(row) for row, *_ in rows]
    (folder / "z.jsonl").write_text("\n".join([*lines, "{'half"]) + "\n", "utf-8")
    truths = [
        Truth("z.jsonl", f"line {number}", reason, kept_id, name)
        for number, (_, reason, kept_id, name) in enumerate(rows, 1)
    ]
    return [*truths, Truth("z.jsonl", f"line {len(rows) + 1}", "bad_json")]


_WORDS = [
    f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("l", "n", "r", "sk", "th")
]
_CHARACTERS = [chr(code) for code in range(0x4E00, 0x4E00 + 600)]


@dataclass(frozen=True)
class Planted:
    """A conversation, and which earlier one it repeats nearly (None: it is itself)."""

    id: str
    items: Items
    repeats: str | None


def planted(count: int, *, seed: int) -> list[Planted]:
    """Conversations of made-up words and Chinese characters, each third one changed a little."""
    chance = random.Random(seed)
    found: list[Planted] = []
    for number in range(count):
        own = [one for one in found if one.repeats is None]
        if number % 3 == 2:
            first = chance.choice(own)
            changed = [(role, _changed(text, chance, 0.02)) for role, text in first.items]
            found.append(Planted(f"n{number}", changed, first.id))
        elif number % 7 == 6:
            # The same question and much else: alike, but not nearly the same.
            other = [(role, _changed(text, chance, 0.3)) for role, text in chance.choice(own).items]
            found.append(Planted(f"n{number}", other, None))
        else:
            found.append(Planted(f"n{number}", _conversation(chance), None))
    return found


def _conversation(chance: random.Random) -> Items:
    chinese = chance.random() < 0.4
    pool, space = (_CHARACTERS, "") if chinese else (_WORDS, " ")
    sizes = [chance.randint(60, 300) for _ in range(2 * chance.randint(1, 3))]
    return [
        (("human", "gpt")[index % 2], space.join(chance.choices(pool, k=size)))
        for index, size in enumerate(sizes)
    ]


def _changed(text: str, chance: random.Random, share: float) -> str:
    spaced = " " in text
    parts = text.split(" ") if spaced else list(text)
    pool = _WORDS if spaced else _CHARACTERS
    for at in chance.sample(range(len(parts)), max(1, int(share * len(parts)))):
        parts[at] = chance.choice(pool)
    return (" " if spaced else "").join(parts)


def renamed(one: Planted, name: str) -> Planted:
    """The same conversation under another id."""
    return replace(one, id=name)
