"""`data convert --split`: long conversations cut between turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.data import split
from openchat_cli.data.convert import ConvertSummary, convert
from openchat_cli.data.settings import ConvertSettings
from tests.conftest import RunCli
from tests.data.rows import byte_tokenizer, conversation, many, with_system, write
from tests.data.test_clean import rows

EOT = "<|end_of_turn|>"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return byte_tokenizer(tmp_path / "model")


def run(folder: Path, *lines: dict[str, Any], **more: Any) -> ConvertSummary:
    source = write(folder / "rows.jsonl", *lines)
    options: dict[str, Any] = {"context": 60, "split": True, "force": True, **more}
    return convert(
        ConvertSettings(source, folder / "out", "opencoder", folder / "model", **options)
    )


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / f"opencoder.{name}").read_bytes())


def texts(folder: Path) -> list[list[str]]:
    return [read(folder, f"{part}.text.json") for part in ("train", "eval")]


def all_texts(folder: Path) -> list[str]:
    return [text for part in texts(folder) for text in part]


def exchange(question: str, answer: str) -> str:
    return f"User:{question}{EOT}Assistant:{answer}{EOT}"


def test_pieces_begin_with_a_question_and_fit(tmp_path: Path, model: Path) -> None:
    # An exchange takes 15 + 2 tokens and its texts: three of these fit into 60.
    turns = [text for k in range(7) for text in (f"q{k}", "a")]
    summary = run(tmp_path, conversation("long", *turns), conversation("short", "q", "a"))
    assert (summary.read, summary.cut, summary.pieces) == (2, 1, 3)
    assert (summary.truncated, summary.dropped) == (0, 0)
    expected = [
        "".join(exchange(f"q{k}", "a") for k in part) for part in ((0, 1, 2), (3, 4, 5), (6,))
    ]
    assert sorted(all_texts(tmp_path)) == sorted([*expected, exchange("q", "a")])
    records = read(tmp_path, "train.json") + read(tmp_path, "eval.json")
    assert max(len(ids) for ids, _ in records) == 60
    assert read(tmp_path, "dataset.json")["split"] == {"conversations": 1, "pieces": 3}
    assert "| pieces they became | 3 |" in (tmp_path / "out" / "README.md").read_text()


def test_without_the_option_the_rest_is_lost(tmp_path: Path, model: Path) -> None:
    turns = [text for k in range(7) for text in (f"q{k}", "a")]
    lines = [conversation("long", *turns), conversation("short", "q", "a")]
    summary = run(tmp_path, *lines, split=False)
    assert (summary.train, summary.eval, summary.truncated, summary.cut) == (1, 1, 1, 0)
    assert read(tmp_path, "dataset.json")["split"] is None


def test_the_system_message_is_in_every_piece(tmp_path: Path, model: Path) -> None:
    turns = [text for k in range(4) for text in (f"q{k}", "a")]
    long = with_system("Be brief", conversation("long", *turns))
    run(tmp_path, long, conversation("short", "q", "a"))
    found = [text for text in all_texts(tmp_path) if "brief" in text]
    assert found == [
        exchange("Be brief\n\nq0", "a") + exchange("q1", "a"),
        exchange("Be brief\n\nq2", "a") + exchange("q3", "a"),
    ]


def test_one_exchange_too_long_is_truncated_or_dropped(tmp_path: Path, model: Path) -> None:
    long = conversation("long", "q0", "a", "q1", "b" * 90, "q" * 90, "c", "q3", "d")
    summary = run(tmp_path, long, conversation("short", "q", "a"))
    assert (summary.pieces, summary.truncated, summary.dropped) == (4, 1, 1)
    dropped = rows(tmp_path / "out" / "opencoder.dropped.jsonl")
    assert [(row["id"], row["reason"]) for row in dropped] == [("long#3", "nothing_supervised")]
    found = all_texts(tmp_path)
    assert exchange("q0", "a") in found and exchange("q3", "d") in found
    assert any(text.startswith(f"User:q1{EOT}Assistant:bbb") for text in found)


def test_the_pieces_of_a_conversation_stay_on_one_side(tmp_path: Path, model: Path) -> None:
    names = [f"c{k}" for k in range(60)]
    lines = [
        conversation(name, *[text for _ in range(1 + k % 9) for text in (name, "a")])
        for k, name in enumerate(names)
    ]
    run(tmp_path, *lines, eval_ratio=0.2)
    train, held = ({text.split("<")[0] for text in part} for part in texts(tmp_path))
    assert not train & held
    by_rank = sorted(names, key=lambda name: split.rank(42, name))
    assert held == {f"User:{name}" for name in by_rank[:12]}


def test_short_conversations_are_as_without(tmp_path: Path, model: Path) -> None:
    run(tmp_path, *many(40), context=200)
    cut = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.json")}
    run(tmp_path, *many(40), context=200, split=False)
    for name in ("train.json", "eval.json", "train.text.json", "eval.text.json"):
        assert cut[f"opencoder.{name}"] == (tmp_path / "out" / f"opencoder.{name}").read_bytes()


def test_the_command_says_what_it_cut(openchat: RunCli, tmp_path: Path, model: Path) -> None:
    turns = [text for k in range(7) for text in (f"q{k}", "a")]
    write(tmp_path / "rows.jsonl", conversation("long", *turns), *many(3))
    options = ("--model-type", "opencoder", "--model-path", model, "--context", 60, "--split")
    ended = openchat("data", "convert", "rows.jsonl", "out", *options, "--json")
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["cut"], counts["pieces"]) == (1, 3)
    assert "1 conversations were cut at turns into 3 pieces" in ended.stderr
