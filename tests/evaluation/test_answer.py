"""`openchat eval answer` and `eval baseline` as processes, against a real server."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from openchat_cli.core import records
from openchat_cli.core.errors import UsageError
from openchat_cli.core.records import Answer, Question
from openchat_cli.evaluation.baseline import baseline
from openchat_cli.evaluation.settings import BaselineSettings
from tests.conftest import RunCli
from tests.evaluation.conftest import InProcess
from tests.evaluation.fake_judge import FakeJudge
from tests.evaluation.runs import questions, rows


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Three questions, the last one with two turns."""
    two_turns = Question("3", "writing", ("Write.", "Shorten it."))
    path = tmp_path / "asked.jsonl"
    records.write(path, [*questions(2), two_turns])
    return path


def test_answers_of_an_endpoint(openchat: RunCli, tmp_path: Path, asked: Path) -> None:
    with FakeJudge() as server:
        ended = openchat(
            "eval", "answer", "run", "--questions", asked, "--url", server.url,
            "--model", "org/my model", "--temperature", "0.5", "--seed", "3", "--json",
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = rows(tmp_path / "run" / "answers" / "org-my-model.jsonl")
    assert [row["question_id"] for row in found] == ["1", "2", "3"]
    assert found[0]["turns"] == ["You said: What is the number 1?"]
    assert found[2]["turns"] == ["You said: Write.", "You said: Shorten it."]
    assert found[2]["finish_reasons"] == ["stop", "stop"]
    assert found[2]["usage"] == {"prompt_tokens": 200, "completion_tokens": 40}
    assert {row["model"] for row in found} == {"org/my model"}
    assert len({row["answer_id"] for row in found}) == 3
    second = next(body for body in server.bodies() if len(body["messages"]) == 3)
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert (second["temperature"], second["top_p"], second["seed"]) == (0.5, 0.9, 3)
    kept = records.read(tmp_path / "run" / "questions.jsonl", Question)
    assert list(kept) == list(records.read(asked, Question))
    assert json.loads(ended.stdout)["counts"]["answers"] == 3
    assert "openchat eval baseline" in ended.stderr


def test_a_rerun_asks_for_what_failed_only(openchat: RunCli, tmp_path: Path, asked: Path) -> None:
    line = ["eval", "answer", "run", "--questions", asked, "--model", "m", "--json", "--url"]
    with FakeJudge(always=400) as server:
        ended = openchat(*line, server.url)
        assert ended.returncode == 3
        assert "3 of 3 answers failed" in ended.stderr
        found = rows(tmp_path / "run" / "answers" / "m.jsonl")
        assert {row["error"] for row in found} == {"HTTP 400: always so"}
        assert found[0]["turns"] == []
        server.plan.always = None
        again = openchat(*line, server.url)
        assert again.returncode == 0, again.stderr
        server.forget()
        third = openchat(*line, server.url)
        assert third.returncode == 0
        assert server.seen == []
        assert json.loads(third.stdout)["counts"]["reused"] == 3
        other = openchat(*line, server.url, "--temperature", "0")
        assert other.returncode == 2
        assert "made with other settings" in other.stderr
        forced = openchat(*line, server.url, "--temperature", "0", "--force")
        assert forced.returncode == 0
        assert {body["temperature"] for body in server.bodies()} == {0.0}


def test_samples_differ_by_their_number(openchat: RunCli, tmp_path: Path, asked: Path) -> None:
    with FakeJudge() as server:
        ended = openchat(
            "eval", "answer", "run", "--questions", asked, "--url", server.url, "--model", "m",
            "--samples", "2", "--seed", "5",
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = rows(tmp_path / "run" / "answers" / "m.jsonl")
    assert [(row["question_id"], row["sample"]) for row in found] == [
        (question, sample) for question in "123" for sample in (0, 1)
    ]
    assert sorted({body["seed"] for body in server.bodies()}) == [5, 6]


def test_other_questions_in_the_same_run(openchat: RunCli, tmp_path: Path, asked: Path) -> None:
    records.write(tmp_path / "more.jsonl", questions(4))
    with FakeJudge() as server:
        line = ("eval", "answer", "run", "--url", server.url, "--model")
        assert openchat(*line, "a", "--questions", asked).returncode == 0
        ended = openchat(*line, "b", "--questions", "more.jsonl")
    assert ended.returncode == 2
    assert "this run has other questions" in ended.stderr


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ([], 2, "no model to answer with"),
        (["--model", "gpt-4o"], 2, "OPENAI_API_KEY"),
        (["--model-path", "nowhere"], 1, "nowhere: no such model folder"),
        (["--model-path", "."], 1, "no model here"),
        (["--url", "localhost:1", "--model", "m"], 2, "'localhost:1' is no URL"),
        (["--questions", "none.jsonl", "--url", "http://x", "--model", "m"], 1, "no such file"),
        (["--benchmark", "openchat-81", "--url", "http://x", "--model", "m"], 2, "openchat-80"),
        (["--samples", "0", "--url", "http://x", "--model", "m"], 2, "at least 1"),
    ],
)
def test_what_is_wrong_is_said(quick: InProcess, line: list[str], code: int, said: str) -> None:
    ended, errors = quick("eval", "answer", "run", *line)
    assert ended == code, errors
    assert said in errors
    assert "Traceback" not in errors


def test_two_questions_with_one_id(quick: InProcess, tmp_path: Path) -> None:
    records.write(tmp_path / "q.jsonl", [*questions(2), *questions(1)])
    code, errors = quick(
        "eval", "answer", "run", "--questions", "q.jsonl", "--url", "http://x", "--model", "m"
    )
    assert code == 1
    assert "question 1 is there twice" in errors


# --- baselines ---


def test_a_baseline_of_an_endpoint(openchat: RunCli, tmp_path: Path, asked: Path) -> None:
    with FakeJudge() as server:
        ended = openchat(
            "eval", "baseline", "run", "--questions", asked, "--url", server.url, "--model", "m",
            "--name", "the base",
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = rows(tmp_path / "run" / "baseline" / "the-base.jsonl")
    assert {row["model"] for row in found} == {"the base"}
    assert "--baseline 'the base'" in ended.stderr


SHAPES = {
    "ours.jsonl": '{"kind": "answer", "version": 1, "question_id": "1", "answer_id": "x", '
    '"model": "m", "turns": ["one"]}\n',
    "fastchat.jsonl": '{"question_id": 1, "text": "one", "answer_id": "x", "model_id": "m"}\n',
    "mt-bench.jsonl": '{"question_id": 1, "answer_id": "x", "model_id": "m", '
    '"choices": [{"index": 0, "turns": ["one"]}], "tstamp": 1.5}\n',
    "original.jsonl": '{"answer_model": "m", "answer": "one", "question_id": 1, "text": "q?"}\n',
    "alpaca.json": '[{"instruction": "What is the number 1?", "output": "one", "generator": "m"}]',
}


@pytest.mark.parametrize("name", SHAPES)
def test_answers_that_exist(tmp_path: Path, name: str) -> None:
    """In the process: the shapes are what matters here."""
    run, asked = tmp_path / "run", tmp_path / "q.jsonl"
    records.write(asked, questions(2))
    (tmp_path / name).write_text(SHAPES[name])
    settings = BaselineSettings(run, asked, answers=tmp_path / name)
    assert baseline(settings).models == ("m",)
    found = list(records.read(run / "baseline" / "m.jsonl", Answer))
    assert [(a.question_id, a.model, a.turns) for a in found] == [("1", "m", ("one",))]
    baseline(settings)  # the same again changes nothing
    baseline(dataclasses.replace(settings, name="n"))
    assert rows(run / "baseline" / "n.jsonl")[0]["model"] == "n"
    (tmp_path / name).write_text(SHAPES[name].replace("one", "another"))
    with pytest.raises(UsageError, match="already there"):
        baseline(settings)


def test_alpaca_outputs_bring_their_questions(openchat: RunCli, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(
        json.dumps([{"instruction": f"Do {n}.", "output": "ok", "generator": "g"} for n in "ab"])
    )
    ended = openchat("eval", "baseline", "run", "--from", "out.json")
    assert ended.returncode == 0, ended.stderr
    asked = list(records.read(tmp_path / "run" / "questions.jsonl", Question))
    assert [(q.question_id, q.turns) for q in asked] == [("1", ("Do a.",)), ("2", ("Do b.",))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"x": 1}\n', "answers were expected"),
        ("", "holds no answers"),
        ('{"question_id": 9, "text": "a", "model_id": "m"}\n', "is for a question of this run"),
    ],
)
def test_a_file_that_is_no_baseline(quick: InProcess, tmp_path: Path, text: str, said: str) -> None:
    records.write(tmp_path / "q.jsonl", questions(2))
    (tmp_path / "base.jsonl").write_text(text)
    code, errors = quick(
        "eval", "baseline", "run", "--from", "base.jsonl", "--questions", "q.jsonl"
    )
    assert code == 1
    assert said in errors
    assert not (tmp_path / "run" / "baseline" / "m.jsonl").exists()


def test_a_baseline_from_one_place(quick: InProcess) -> None:
    code, errors = quick("eval", "baseline", "run", "--model", "m", "--from", "x.jsonl")
    assert code == 2
    assert "exactly one place" in errors


def test_real_files(openchat: RunCli, tmp_path: Path, shared_data: Path) -> None:
    """Vicuna's question.jsonl, FastChat's answers and AlpacaEval's outputs as they are."""
    vicuna = shared_data / "eval" / "vicuna"
    ended = openchat(
        "eval", "baseline", "run", "--from", vicuna / "answer" / "answer_gpt35.jsonl",
        "--questions", vicuna / "question.jsonl", "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["counts"]["answers"] == 80
    outputs = shared_data / "eval" / "alpaca_eval" / "vicuna-13b" / "model_outputs.json"
    ended = openchat("eval", "baseline", "alpaca", "--from", outputs, "--json")
    assert json.loads(ended.stdout)["counts"]["answers"] == 805
    with FakeJudge() as server:
        ended = openchat(
            "eval", "answer", "mt", "--model", "m", "--url", server.url, "--json",
            "--questions", shared_data / "eval" / "mt_bench" / "question.jsonl",
        )  # fmt: skip
    assert json.loads(ended.stdout)["counts"]["answers"] == 80
    assert {len(row["turns"]) for row in rows(tmp_path / "mt" / "answers" / "m.jsonl")} == {2}
