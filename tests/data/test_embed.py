"""`data embed`: offline, by a local model, and by an endpoint that misbehaves."""

from __future__ import annotations

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

from openchat_cli.core.endpoint import Endpoint
from openchat_cli.core.errors import OpenChatError
from openchat_cli.core.records import Conversation, Message
from openchat_cli.data.embedding.embed import EmbedSummary, embed
from openchat_cli.data.embedding.terms import terms
from openchat_cli.data.embedding.text import EMPTY, text_of
from openchat_cli.data.settings import EmbedSettings
from tests.conftest import RunCli
from tests.data.fake_embeddings import DIMS, FakeEmbeddings, vector
from tests.data.topics import conversation, mixed, write


def vectors(folder: Path) -> Any:
    return load_file(folder / "embeddings.safetensors")["embeddings"]


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "embeddings.json").read_text("utf-8"))
    return found


# --- what is embedded ---


def said(*turns: str) -> Conversation:
    roles = ("user", "assistant")
    messages = (Message(roles[n % 2], text) for n, text in enumerate(turns))
    return Conversation("x", "s", tuple(messages))


def test_the_human_comes_first_and_the_answers_fill_the_rest() -> None:
    talk = said("first question", "first answer", "second question", "second answer")
    assert (
        text_of(talk, 1000) == "first question\n\nsecond question\n\nfirst answer\n\nsecond answer"
    )
    assert text_of(talk, 20) == "first question\n\nseco"
    assert text_of(said("  ", "\n"), 100) == EMPTY
    assert text_of(said("a\0b", "\ud800"), 100) == "a b\n\n?"
    assert text_of(Conversation("x", "s", (Message("system", "only this"),)), 100) == "only this"


def test_terms_of_scripts_with_and_without_spaces() -> None:
    assert list(terms("The CAT sat, 3 ｃａｔｓ")) == ["the", "cat", "sat", "cats"]
    assert list(terms("机器学习")) == ["机器", "器学", "学习", "机器学", "器学习"]
    assert "プログ" in set(terms("プログラム"))
    assert list(terms("Привет, мир")) == ["привет", "мир"]
    assert list(terms("12 + 34 !!")) == []


# --- offline ---


def test_offline_gives_the_same_bytes_and_likeness(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "out" / "conversations.jsonl", mixed(20))
    ended = openchat("data", "embed", "out", "out", "--json")
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["embedded"], counts["method"], counts["calls"]) == (80, "tfidf-svd", 0)
    first = (tmp_path / "out" / "embeddings.safetensors").read_bytes()
    env = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    again = openchat("data", "embed", "out", "out", "--force", env=env)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "embeddings.safetensors").read_bytes() == first
    found = vectors(tmp_path / "out")
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    likeness = found @ found.T
    blocks = [likeness[k : k + 20, k : k + 20].mean() for k in range(0, 80, 20)]
    assert min(blocks) > 0.3
    assert max(likeness[k : k + 20, :k].mean() for k in range(20, 80, 20)) < 0.1
    assert manifest(tmp_path / "out")["rows"] == "conversations.jsonl"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_conversations(tmp_path: Path, count: int) -> None:
    rows = write(tmp_path / "rows.jsonl", mixed(2)[:count])
    assert embed(EmbedSettings(rows, tmp_path / "out")).count == count
    found = vectors(tmp_path / "out")
    assert len(found) == count and np.isfinite(found).all()


def test_texts_without_words(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [conversation(str(n), "1 + 1", "2") for n in range(30)])
    embed(EmbedSettings(rows, tmp_path / "out"))
    assert np.isfinite(vectors(tmp_path / "out")).all()


def test_stdin_keeps_a_copy_of_the_rows(openchat: RunCli, tmp_path: Path) -> None:
    rows = mixed(2)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    ended = openchat("data", "embed", "-", "out", stdin=text)
    assert ended.returncode == 0, ended.stderr
    kept = (tmp_path / "out" / "embedded.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in kept] == [row["id"] for row in rows]
    assert manifest(tmp_path / "out")["rows"] == "embedded.jsonl"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none.jsonl", "out"), 1, "no such file"),
        (("empty.jsonl", "out"), 1, "holds no conversations"),
        (("rows.jsonl", "-"), 2, "OUT must be a folder"),
        (("rows.jsonl", "out", "--url", "http://127.0.0.1:1/v1"), 2, "--model NAME"),
        (("rows.jsonl", "out", "--url", "nowhere", "--model", "m"), 2, "is no URL"),
        (("rows.jsonl", "out", "--model", "text-embedding-3-small"), 2, "OPENAI_API_KEY"),
        (("rows.jsonl", "out", "--max-chars", "0"), 2, "must be positive"),
        (("rows.jsonl", "out", "--model-path", "nothing"), 1, "no such folder"),
    ],
)
def test_what_cannot_work_is_one_line(
    openchat: RunCli, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    write(tmp_path / "rows.jsonl", mixed(1))
    (tmp_path / "empty.jsonl").write_text("")
    ended = openchat("data", "embed", *arguments)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_outputs_are_not_overwritten(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(1))
    assert openchat("data", "embed", "rows.jsonl", "out").returncode == 0
    ended = openchat("data", "embed", "rows.jsonl", "out")
    assert ended.returncode == 2
    assert "--force" in ended.stderr


# --- a sentence-transformer ---


@pytest.mark.slow
def test_a_local_sentence_transformer(openchat: RunCli, tmp_path: Path) -> None:
    transformers = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import BoW

    words = [
        "oven",
        "bake",
        "flour",
        "butter",
        "recipe",
        "function",
        "variable",
        "list",
        "loop",
        "class",
    ]
    transformers.SentenceTransformer(modules=[BoW(words)]).save(str(tmp_path / "model"))
    write(tmp_path / "rows.jsonl", mixed(3))
    ended = openchat("data", "embed", "rows.jsonl", "out", "--model-path", "model")
    assert ended.returncode == 0, ended.stderr
    assert vectors(tmp_path / "out").shape == (12, len(words))
    assert manifest(tmp_path / "out")["model"] == "model"


# --- an endpoint ---


def by(server: FakeEmbeddings, tmp_path: Path, **more: Any) -> EmbedSummary:
    attempts = more.pop("attempts", 3)
    options: dict[str, Any] = {"batch_size": 4, **more}
    return embed(
        EmbedSettings(
            input=tmp_path / "rows.jsonl",
            output=tmp_path / "out",
            endpoint=Endpoint(server.url, attempts=attempts, concurrency=2),
            model="fake",
            **options,
        )
    )


def expected(rows: list[dict[str, Any]], dims: int = DIMS) -> Any:
    from openchat_cli.core.records import parse

    texts = [text_of(parse("test", row, Conversation)[0], EmbedSettings.max_chars) for row in rows]
    found = np.array([vector(text, dims) for text in texts])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"form": "base64"},
        {"shuffle": True, "form": "base64"},
        {"too_many": 2, "broken": 1},
        {"most_texts": 3},
        {"wrong": "count"},
    ],
    ids=str,
)
def test_each_text_gets_its_own_vector(tmp_path: Path, plan: dict[str, Any]) -> None:
    rows = mixed(3)
    write(tmp_path / "rows.jsonl", rows)
    with FakeEmbeddings(**plan) as server:
        summary = by(server, tmp_path)
    assert (summary.count, summary.failed, summary.dims) == (12, 0, DIMS)
    assert np.allclose(vectors(tmp_path / "out"), expected(rows), atol=1e-6)
    assert manifest(tmp_path / "out")["ids"] == [row["id"] for row in rows]
    assert summary.tokens is not None and summary.tokens > 0


def test_equal_texts_are_sent_once_and_recorded_ones_never(tmp_path: Path) -> None:
    rows = [conversation("a", "same", "text"), conversation("b", "same", "text"), *mixed(2)]
    write(tmp_path / "rows.jsonl", rows)
    with FakeEmbeddings() as server:
        by(server, tmp_path)
        assert max(server.answered.values()) == 1
        asked = len(server.seen)
        # Two more conversations cost one more call, whatever the size of the batches.
        write(tmp_path / "rows.jsonl", [*rows, *mixed(3)[-2:]])
        again = by(server, tmp_path, force=True, batch_size=64)
        assert len(server.seen) == asked + 1
        assert again.plan.recorded == 9
        assert max(server.answered.values()) == 1
    assert np.allclose(vectors(tmp_path / "out"), expected([*rows, *mixed(3)[-2:]]), atol=1e-6)


def test_dimensions_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(2))
    with FakeEmbeddings() as server:
        assert by(server, tmp_path, dimensions=5).dims == 5
        assert all(body["dimensions"] == 5 for body in server.bodies)


def test_a_text_too_long_is_cut_by_the_limit_then_by_halves(tmp_path: Path) -> None:
    long = "字" * 3000
    write(tmp_path / "rows.jsonl", [conversation("long", long, "answer"), *mixed(1)])
    with FakeEmbeddings(most_chars=1000) as server:
        summary = by(server, tmp_path, max_tokens=1500)
        sent = [text for batch in server.seen for text in batch if "字" in text]
    assert summary.failed == 0
    assert summary.shortened == 1
    assert 1000 < len(sent[0]) < 2500  # by the estimate of its tokens
    assert len(sent[-1]) <= 1000


def test_a_refused_text_is_left_out_and_named(openchat: RunCli, tmp_path: Path) -> None:
    rows = [*mixed(2), conversation("bad", "this is poison", "answer")]
    write(tmp_path / "rows.jsonl", rows)
    with FakeEmbeddings(poison="poison") as server:
        ended = openchat(
            "data", "embed", "rows.jsonl", "out", "--url", server.url, "--model", "m", "--json"
        )
    assert ended.returncode == 3, ended.stderr
    assert "1 of 9 conversations have no vector" in ended.stderr
    assert json.loads(ended.stdout)["status"] == "partial"
    found = manifest(tmp_path / "out")
    assert found["ids"] == [row["id"] for row in rows[:-1]]
    assert "rejected" in found["failed"]["8"]
    mapped = openchat("data", "map", "out", "map", "--reduce", "pca")
    assert mapped.returncode == 0, mapped.stderr
    assert "1 conversations have no vector" in mapped.stderr


def test_an_endpoint_that_refuses_everything_ends_soon(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(20))
    with FakeEmbeddings(refuse_all=True) as server, pytest.raises(OpenChatError, match="no embed"):
        by(server, tmp_path)
    assert len(server.seen) < 20
    assert not (tmp_path / "out" / "embeddings.json").exists()


@pytest.mark.parametrize("wrong", ["dims", "nan", "shape"])
def test_vectors_that_are_none_are_not_taken(tmp_path: Path, wrong: str) -> None:
    write(tmp_path / "rows.jsonl", mixed(1))
    with FakeEmbeddings(wrong=wrong) as server, pytest.raises(OpenChatError):
        by(server, tmp_path, attempts=1)
    assert not (tmp_path / "out" / "embeddings.safetensors").exists()


def test_a_length_that_changes_on_the_way_is_explained(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(3))
    with FakeEmbeddings(wrong="later dims") as server:
        summary = by(server, tmp_path, attempts=1, batch_size=1)
    assert 0 < summary.failed < summary.count + summary.failed
    said = (tmp_path / "out" / "embeddings.json").read_text("utf-8")
    assert f"{DIMS - 1} numbers after earlier ones of {DIMS}" in said
    assert "--dimensions" in said


def test_the_key_is_sent_and_never_shown(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(1))
    line = ("data", "embed", "rows.jsonl", "out", "--model", "m", "--url")
    with FakeEmbeddings(key="sk-secret-key-1") as server:
        wrong = openchat(*line, server.url, env={"OPENAI_API_KEY": "sk-other-key-22"})
        assert wrong.returncode == 1
        assert "the key was refused" in wrong.stderr
        assert "sk-other" not in wrong.stderr
        right = openchat(*line, server.url, env={"OPENAI_API_KEY": "sk-secret-key-1"})
    assert right.returncode == 0, right.stderr


def test_nobody_there(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(1))
    ended = openchat(
        "data", "embed", "rows.jsonl", "out", "--url", "http://127.0.0.1:9/v1", "--model", "m"
    )
    assert ended.returncode == 1
    assert "can't connect" in ended.stderr


def test_dry_run_tells_the_cost_and_leaves_no_trace(openchat: RunCli, tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(10))
    line = ("data", "embed", "rows.jsonl", "out", "--url", "http://127.0.0.1:9/v1", "--dry-run")
    ended = openchat(*line, "--model", "text-embedding-3-small", "--json")
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["conversations"], counts["calls"], counts["recorded"]) == (40, 1, 0)
    assert counts["usd"] == pytest.approx(counts["tokens"] * 0.02 / 1e6)
    assert not (tmp_path / "out").exists()
    shown = openchat(*line, "--model", "unknown-model")
    assert "no price known" in shown.stdout


@pytest.mark.slow
def test_kill_nine_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    rows = mixed(30)
    write(tmp_path / "rows.jsonl", rows)
    with FakeEmbeddings(latency=0.05) as server:
        line = [sys.executable, "-m", "openchat_cli", "data", "embed", str(tmp_path / "rows.jsonl"),
                str(tmp_path / "out"), "--url", server.url, "--model", "m", "--batch-size", "4",
                "--concurrency", "2"]  # fmt: skip
        kills = 0
        for _ in range(3):
            before = len(server.seen)
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(server.seen) < before + 4 and process.poll() is None:
                time.sleep(0.01)
            kills += process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        assert kills == 3
        ended = subprocess.run(line, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert sum(count - 1 for count in server.answered.values()) <= kills * 2 * 4
    assert np.allclose(vectors(tmp_path / "out"), expected(rows), atol=1e-6)


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", mixed(2))
    with FakeEmbeddings() as server:
        by(server, tmp_path)
        numbers = tmp_path / "out" / ".journal" / "embeddings.f32"
        numbers.write_bytes(numbers.read_bytes()[:10])
        with pytest.raises(OpenChatError, match="shorter than its journal"):
            by(server, tmp_path, force=True)
