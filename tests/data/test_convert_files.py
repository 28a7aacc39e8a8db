"""What `data convert` writes beside the JSON: the twin, weights, the card; and what it leaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from openchat_cli.core import registry
from openchat_cli.core.dataset import Key, open_cache
from openchat_cli.core.errors import InputError
from openchat_cli.data.card import MARK
from openchat_cli.data.convert import ConvertSummary, convert, outputs_of
from openchat_cli.data.settings import ConvertSettings
from tests.conftest import RunCli
from tests.data.rows import byte_tokenizer, conversation, many, write
from tests.data.test_clean import rows

KIND = registry.get("opencoder")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return byte_tokenizer(tmp_path / "model")


def run(folder: Path, *lines: dict[str, Any], **more: Any) -> ConvertSummary:
    source = write(folder / "rows.jsonl", *lines)
    settings = ConvertSettings(source, folder / "out", "opencoder", folder / "model", force=True)
    return convert(dataclasses.replace(settings, **more))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "out" / f"opencoder.{name}").read_bytes())


# --- the twin ---


@pytest.mark.parametrize("part", ["train", "eval"])
def test_the_twin_holds_what_the_json_holds(tmp_path: Path, model: Path, part: str) -> None:
    run(tmp_path, *many(300))
    path = tmp_path / "out" / f"opencoder.{part}.json"
    records = json.loads(path.read_bytes())
    found = load_file(path.with_suffix(".safetensors"))  # by the library of that format
    assert found["tokens"].tolist() == [token for ids, _ in records for token in ids]
    assert found["mask"].tolist() == [flag for _, mask in records for flag in mask]
    assert found["weights"].tolist() == found["mask"].tolist()
    lengths = [len(ids) for ids, _ in records]
    assert found["offsets"].tolist() == [0, *np.cumsum(lengths).tolist()]
    assert found["tokens"].dtype == np.uint16
    cache = open_cache(path.with_suffix(".safetensors"), Key.of(path))
    assert cache.weights is None
    assert cache.highest == max(token for ids, _ in records for token in ids)


def test_weights_live_in_the_twin_alone(tmp_path: Path, model: Path) -> None:
    weighted = conversation("w", "q", "abc", "q", "de", weight=0.5)
    weighted["messages"][3]["weight"] = 3
    silent = conversation("silent", "q", "abc", "q", "de")
    silent["messages"][1]["weight"] = 0
    nothing = conversation("nothing", "q", "a", weight=0)
    plain = run(tmp_path, *many(20), conversation("w", "q", "abc", "q", "de"), silent)
    before = read(tmp_path, "train.json"), read(tmp_path, "eval.json")
    assert not plain.weighted and not read(tmp_path, "dataset.json")["weighted"]
    summary = run(tmp_path, *many(20), weighted, silent, nothing)
    assert summary.weighted and read(tmp_path, "dataset.json")["weighted"] is True
    assert (read(tmp_path, "train.json"), read(tmp_path, "eval.json")) == before
    dropped = rows(tmp_path / "out" / "opencoder.dropped.jsonl")
    assert [(row["id"], row["reason"]) for row in dropped] == [("nothing", "nothing_supervised")]
    path = tmp_path / "out" / "opencoder.train.json"
    cache = open_cache(path.with_suffix(".safetensors"), Key.of(path))
    assert cache.weights is not None
    sums = {
        tuple(np.unique(cache.weights[start:end]).tolist())
        for start, end in zip(cache.offsets, cache.offsets[1:], strict=False)
    }
    assert sums == {(0.0, 1.0), (0.0, 0.5, 1.5)}
    assert (cache.mask == (cache.weights > 0)).all()


# --- texts ---


def test_texts_show_what_is_trained(tmp_path: Path, model: Path) -> None:
    lines = [
        conversation("cut", "q", "é" * 100),
        conversation("surrogate", "\ud83d q", "a \ud83d\ude42"),
        conversation("control", "<|end_of_turn|>", "<|endoftext|>"),
        conversation("exact", "q", "a" * 15),
    ]
    run(tmp_path, *lines, context=34, eval_ratio=0.0)
    found = set(read(tmp_path, "train.text.json") + read(tmp_path, "eval.text.json"))
    assert found == {
        "User:q<|end_of_turn|>Assistant:" + "é" * 8 + "\ufffd",
        "User:\ufffd q<|end_of_turn|>Assistant:a 🙂<|end_of_turn|>",
        "User:<|end_of_turn|><|end_of_turn|>Assistant:<|e",
        "User:q<|end_of_turn|>Assistant:aaaaaaaaaaaaaaa<|end_of_turn|>",
    }


# --- the card ---


def test_the_card_tells_of_every_type(tmp_path: Path, model: Path) -> None:
    yaml = pytest.importorskip("yaml")
    lines = [
        *(conversation(f"a{k}", "q", "a", model="GPT-4", language="en") for k in range(150)),
        *(conversation(f"b{k}", "q", "a", model="x|<b>\n`", language="no") for k in range(50)),
        conversation("c", "q" * 90, "a"),
        conversation("d", "q", "a" * 90, language="not a code"),
    ]
    run(tmp_path, *lines, context=60)
    run(tmp_path, *lines, context=60, model_type="own", model_file=own_type(tmp_path))
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["language"] == ["en", "no"]
    assert about["size_categories"] == ["n<1K"]
    assert about["task_categories"] == ["text-generation"]
    configs = {config["config_name"]: config["data_files"] for config in about["configs"]}
    assert configs["opencoder"][0] == {"split": "train", "path": "opencoder.train.json"}
    assert list(configs) == ["opencoder", "own"]
    assert MARK in body.splitlines()
    for line in (
        "| conversations read | 202 |",
        "| dropped, with nothing to learn | 1 |",
        "| truncated to it | 1 |",
        "| GPT-4 | 150 |",
        "| x\\|\\<b\\> \\` | 50 |",
        "## own",
        "openchat data convert rows.jsonl out --model-type opencoder --model-path model "
        "--context 60",
    ):
        assert line in body, line
    for path in (tmp_path / "out").iterdir():
        if path.name != "README.md":
            assert f"| `{path.name}` |" in body
            assert hashlib.sha256(path.read_bytes()).hexdigest() in body
    assert str(tmp_path) not in text


def own_type(folder: Path) -> Path:
    path = folder / "types.toml"
    path.write_text('[own]\nextends = "opencoder"\n', "utf-8")
    return path


def test_languages_are_counted_by_their_codes(tmp_path: Path, model: Path) -> None:
    names = ["zh-CN", "zh", "English", "en_US", "pt-br"]
    run(
        tmp_path,
        *(conversation(f"c{k}", "q", "a", language=name) for k, name in enumerate(names)),
    )
    found = read(tmp_path, "dataset.json")["languages"]
    assert (found["given"], found["unlabelled"]) == ({"en": 2, "zh": 2, "pt": 1}, 0)


def test_languages_are_detected_where_no_row_names_them(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("py3langid")
    german = "Wo steht das Haus, in dem deine Großmutter früher gewohnt hat?"
    english = "Where is the house in which your grandmother used to live?"
    lines = [conversation(f"g{k}", german, german) for k in range(30)]
    run(tmp_path, *lines, *(conversation(f"e{k}", english, english) for k in range(10)))
    found = read(tmp_path, "dataset.json")["languages"]
    assert found == {"given": {}, "unlabelled": 40, "detected": {"de": 30, "en": 10}}


def test_a_readme_of_ones_own_stays(openchat: RunCli, tmp_path: Path, model: Path) -> None:
    write(tmp_path / "rows.jsonl", *many(3))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("# Mine\n")
    options = ("--model-type", "opencoder", "--model-path", model)
    ended = openchat("data", "convert", "rows.jsonl", "out", *options, "--json")
    assert ended.returncode == 0 and "no dataset card" in ended.stderr
    assert (tmp_path / "out" / "README.md").read_text() == "# Mine\n"
    assert "out/README.md" not in json.loads(ended.stdout)["outputs"]


# --- whole or not at all ---


def test_the_bytes_do_not_depend_on_where_or_when(tmp_path: Path) -> None:
    found: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        byte_tokenizer(folder / "model")
        run(folder, *many(130))
        found.append({path.name: path.read_bytes() for path in (folder / "out").iterdir()})
    assert found[0] == found[1] and len(found[0]) == 9


def test_a_failure_leaves_the_files_of_the_run_before(tmp_path: Path, model: Path) -> None:
    run(tmp_path, *many(20))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(InputError, match="no role"):
        run(tmp_path, *many(200), {**conversation("t"), "messages": [message("tool")]})
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after == before


def message(role: str) -> dict[str, str]:
    return {"role": role, "content": "x"}


def test_kill_leaves_nothing_half_and_the_next_run_sweeps(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    write(tmp_path / "rows.jsonl", *many(40_000))
    command = [sys.executable, "-m", "openchat_cli", "data", "convert", "rows.jsonl", "out"]
    command += ["--model-type", "opencoder", "--model-path", "model", "--quiet"]
    kinds: set[str] = set()
    for delay in (0.0, 0.2, 0.5):
        process = subprocess.Popen(command, cwd=tmp_path)
        deadline = time.monotonic() + 30
        while not list(out.glob(".*.part")) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kinds |= {path.suffix for path in out.iterdir()}
        assert not [path for path in out.iterdir() if not path.name.startswith(".")]
    assert kinds == {".part"}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many(30)))
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in outputs_of(out, KIND)} | {"README.md"}
