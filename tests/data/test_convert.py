"""`data convert` and `data run`: the token dataset, exactly in the original's shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core import registry, templates
from openchat_cli.core.records import Message
from openchat_cli.core.tokens import load_tokenizer
from openchat_cli.data import split
from openchat_cli.data.convert import convert
from openchat_cli.data.settings import ConvertSettings
from tests.conftest import RunCli
from tests.data import generator
from tests.data.rows import byte_tokenizer, conversation, many, write
from tests.data.test_clean import rows


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return byte_tokenizer(tmp_path / "model")


def settings(folder: Path, source: Path, **more: Any) -> ConvertSettings:
    return ConvertSettings(source, folder / "out", "opencoder", folder / "model", **more)


def test_the_files_are_what_the_original_wrote(tmp_path: Path, model: Path) -> None:
    source = write(tmp_path / "rows.jsonl", *many(300))
    summary = convert(settings(tmp_path, source))
    assert (summary.train, summary.eval) == (297, 3)
    kind = registry.get("opencoder")
    tokenizer = load_tokenizer(model, kind)
    expected = {
        row["id"]: templates.render(kind, tokenizer, [Message(**m) for m in row["messages"]])
        for row in many(300)
    }
    out = tmp_path / "out"
    train = json.loads((out / "opencoder.train.json").read_bytes())
    held = json.loads((out / "opencoder.eval.json").read_bytes())
    ranks = sorted((split.rank(42, name), name) for name in expected)
    eval_names = {name for _, name in ranks[:3]}
    assert held == [[r.ids, r.mask] for name, r in expected.items() if name in eval_names]
    assert train == [[r.ids, r.mask] for name, r in expected.items() if name not in eval_names]
    assert all(type(flag) is bool for _, mask in train for flag in mask)
    texts = json.loads((out / "opencoder.train.text.json").read_bytes())
    assert len(texts) == 297
    assert (
        texts[0] == "User:question 0<|end_of_turn|>Assistant:answer <|end_of_turn|> 0 é" + kind.eot
    )


def test_the_manifest_tells_how_it_was_made(tmp_path: Path, model: Path) -> None:
    source = write(tmp_path / "rows.jsonl", *many(20))
    convert(settings(tmp_path, source, seed=7, context=64))
    manifest = json.loads((tmp_path / "out" / "opencoder.dataset.json").read_bytes())
    kind = registry.get("opencoder")
    assert manifest["kind"] == "dataset"
    assert manifest["model_type"] == "opencoder"
    assert manifest["template_hash"] == templates.template_hash(kind)
    assert manifest["tokenizer_hash"] == load_tokenizer(model, kind).hash
    assert (manifest["seed"], manifest["context"]) == (7, 64)
    assert manifest["counts"] == {"read": 20, "train": 19, "eval": 1, "dropped": 0}
    assert manifest["lengths"]["max"] <= 64


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, model: Path) -> None:
    source = write(tmp_path / "rows.jsonl", *many(130))
    found: list[dict[str, bytes]] = []
    for _ in range(2):
        convert(settings(tmp_path, source, force=True))
        found.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert found[0] == found[1]
    assert not [name for name in found[0] if name.startswith(".")]


def test_truncation_and_what_has_nothing_left_to_learn(tmp_path: Path, model: Path) -> None:
    source = write(
        tmp_path / "rows.jsonl",
        conversation("long answer", "q", "a" * 200),
        conversation("long question", "q" * 200, "a"),
        conversation("short", "q", "a"),
        conversation("other", "q", "b"),
    )
    summary = convert(settings(tmp_path, source, context=50))
    assert (summary.read, summary.dropped, summary.truncated) == (4, 1, 1)
    dropped = rows(tmp_path / "out" / "opencoder.dropped.jsonl")
    assert [(row["id"], row["reason"]) for row in dropped] == [
        ("long question", "nothing_supervised")
    ]
    train = json.loads((tmp_path / "out" / "opencoder.train.json").read_bytes())
    held = json.loads((tmp_path / "out" / "opencoder.eval.json").read_bytes())
    assert max(len(ids) for ids, _ in train + held) == 50


@pytest.mark.parametrize(
    ("total", "ratio", "count"), [(10, 0.01, 1), (250, 0.01, 2), (80, 0.15, 12)]
)
def test_how_many_are_held_out(total: int, ratio: float, count: int) -> None:
    assert split.held_out_count(total, ratio) == count


def test_the_split_depends_on_seed_and_id_alone() -> None:
    names = [f"c{k}" for k in range(1000)]

    def held(seed: int, of: list[str]) -> set[str]:
        chosen = split.held_out([split.rank(seed, name) for name in of], 10)
        return {of[index] for index in chosen}

    assert held(42, names) == held(42, names[::-1])
    assert held(42, names) != held(43, names)
    assert split.rank(42, "c0") == 2550096312729775920


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (conversation("w", "q", "a", weight=-0.5), "conversation w has the weight -0.5"),
        (conversation("w", "q", "a", weight=float("nan")), "conversation w has the weight nan"),
        (
            {**conversation("w"), "messages": [{"role": "user", "content": "q", "weight": 1e9}]},
            "conversation w has the weight 1000000000.0",
        ),
        ({**conversation("t"), "messages": [{"role": "tool", "content": "x"}]}, "no role 'tool'"),
    ],
    ids=["negative weight", "no number", "huge weight", "role"],
)
def test_rows_that_can_not_be_converted(
    openchat: RunCli, tmp_path: Path, model: Path, row: dict[str, Any], says: str
) -> None:
    write(tmp_path / "rows.jsonl", *many(3), row)
    ended = openchat(
        "data", "convert", "rows.jsonl", "out", "--model-type", "opencoder", "--model-path", model
    )
    assert (ended.returncode, says in ended.stderr) == (1, True), ended.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--model-type", "opencodr"], 2, "did you mean 'opencoder'"),
        ([], 2, "--model-type"),
        (["--model-type", "opencoder", "--eval-ratio", "1"], 2, "below 1"),
        (["--model-type", "opencoder", "--model-path", "absent"], 1, "no such folder"),
    ],
)
def test_options_that_can_not_work(
    openchat: RunCli, tmp_path: Path, model: Path, arguments: list[str], code: int, says: str
) -> None:
    write(tmp_path / "rows.jsonl", *many(3))
    path = [] if "--model-path" in arguments else ["--model-path", str(model)]
    ended = openchat("data", "convert", "rows.jsonl", "out", *path, *arguments)
    assert (ended.returncode, says in ended.stderr) == (code, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_stdout_can_not_take_several_files(openchat: RunCli, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "rows.jsonl", *many(3))
    path = ("--model-type", "opencoder", "--model-path", model)
    ended = openchat("data", "convert", "rows.jsonl", "-", *path)
    assert (ended.returncode, "OUT must be a folder" in ended.stderr) == (2, True)
    assert not (tmp_path / "-").exists()


def test_too_few_and_none(openchat: RunCli, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "one.jsonl", *many(1))
    write(tmp_path / "none.jsonl")
    for name in ("one.jsonl", "none.jsonl"):
        ended = openchat(
            "data", "convert", name, "out", "--model-type", "opencoder", "--model-path", model
        )
        assert (ended.returncode, ended.stderr.count("error:")) == (1, 1)


def test_without_a_tokeniser_and_without_the_network(openchat: RunCli, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    write(tmp_path / "rows.jsonl", *many(3))
    ended = openchat(
        "data",
        "convert",
        "rows.jsonl",
        "out",
        "--model-type",
        "openchat",
        "--quiet",
        env={"HF_HOME": str(tmp_path / "hub")},
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 2 and "--model-path" in ended.stderr


def test_the_three_steps_at_once(openchat: RunCli, tmp_path: Path, model: Path) -> None:
    generator.write(tmp_path / "in", generator.pages(60, seed=5))
    ended = openchat(
        "data", "run", "in", "out", "--model-type", "opencoder", "--model-path", model, "--json"
    )
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary["counts"]["opencoder"]["train"] > 5
    assert all(Path(tmp_path / path).is_file() for path in summary["outputs"])
    again = openchat("data", "run", "in", "out", "--model-type", "opencoder", "--model-path", model)
    assert (again.returncode, "already there" in again.stderr) == (2, True)


def test_real_conversations_through_llamas_tokeniser(tmp_path: Path, shared_data: Path) -> None:
    lines = (
        (shared_data / "conversations" / "sharegpt_en_506.jsonl").read_text("utf-8").splitlines()
    )
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(lines[:60]), "utf-8")
    folder = shared_data / "tokenizers" / "llama"
    summary = convert(ConvertSettings(source, tmp_path / "out", "openchat", folder))
    assert summary.train + summary.eval + summary.dropped == 60
    kind = registry.get("openchat")
    tokenizer = load_tokenizer(folder, kind)
    turns = json.loads(lines[0])["conversations"]
    names = {"human": "user", "gpt": "assistant"}
    messages = [Message(names[turn["from"]], turn["value"]) for turn in turns]
    expected = templates.render(kind, tokenizer, messages)
    train = json.loads((tmp_path / "out" / "openchat.train.json").read_bytes())
    assert [expected.ids[:2048], expected.mask[:2048]] in train
