"""`openchat eval judge` as a process, against a real server and without one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from openchat_cli.core import records
from openchat_cli.core.records import Answer, Question
from tests.conftest import RunCli
from tests.evaluation.conftest import InProcess
from tests.evaluation.fake_judge import FakeJudge
from tests.evaluation.runs import answers, make_run, questions, rows


def judge(
    openchat: RunCli, server: FakeJudge, run: Path, *more: object, key: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {"OPENAI_API_KEY": key} if key else None
    return openchat(
        "eval", "judge", run, "--baseline", "base", "--judge", "fake", "--judge-url", server.url,
        "--json", *more, env=env,
    )  # fmt: skip


def judged(run: Path, model: str = "ours") -> list[dict[str, object]]:
    return rows(run / "judgments" / f"{model}_vs_base.jsonl")


def test_both_orders_and_every_sample(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 4, models=("ours", "other"))
    with FakeJudge() as server:
        ended = judge(openchat, server, run, "--samples", "2", key="sk-test-0123456789")
        assert ended.returncode == 0, ended.stderr
        assert len(server.seen) == 2 * 4 * 2 * 2
        assert {seen.headers["authorization"] for seen in server.seen} == {
            "Bearer sk-test-0123456789"
        }
        assert all("response_format" in body for body in server.bodies())
    found = judged(run)
    assert [(r["question_id"], r["order"], r["sample"]) for r in found] == [
        (str(question), order, sample)
        for question in range(1, 5)
        for order in ("model_first", "baseline_first")
        for sample in (0, 1)
    ]
    assert {r["status"] for r in found} == {"ok"}
    assert {r["verdict"] for r in found} == {"win"}
    # 43 and 23 characters: 6 and 4, and half a point for the first place.
    assert {(r["order"], r["score"], r["baseline_score"]) for r in found} == {
        ("model_first", 6.5, 4.0),
        ("baseline_first", 6.0, 4.5),
    }
    assert {(r["model"], r["baseline"], r["judge"]) for r in found} == {("ours", "base", "fake")}
    assert found[0]["usage"] == {"prompt_tokens": 100, "completion_tokens": 20}
    assert len({r["prompt_hash"] for r in found + judged(run, "other")}) == 1
    summary = json.loads(ended.stdout)
    assert summary["counts"]["ok"] == 32
    assert "openchat eval report" in ended.stderr
    for file in [*run.rglob("*"), *run.rglob(".*")]:
        assert not file.is_file() or b"sk-test" not in file.read_bytes()


def test_a_finished_run_makes_no_call(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 3)
    with FakeJudge(refuse=("temperature", "response_format")) as server:
        first = judge(openchat, server, run)
        assert first.returncode == 0, first.stderr
        assert server.statuses["400"] == 2
        before = (run / "judgments" / "ours_vs_base.jsonl").read_bytes()
        server.forget()
        again = judge(openchat, server, run)
        assert again.returncode == 0, again.stderr
        assert server.seen == []
    assert (run / "judgments" / "ours_vs_base.jsonl").read_bytes() == before
    counts = json.loads(again.stdout)["counts"]
    assert (counts["calls"], counts["recorded"]) == (0, 6)


def test_text_where_structured_output_is_not_taken(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 3)
    with FakeJudge(refuse=("response_format",)) as server:
        ended = judge(openchat, server, run)
    assert ended.returncode == 0, ended.stderr
    assert "no structured output" in ended.stderr
    assert {r["verdict"] for r in judged(run)} == {"win"}
    assert server.statuses["400"] == 1
    with FakeJudge() as server:
        make_run(tmp_path / "other", 3)
        assert judge(openchat, server, tmp_path / "other", "--format", "text").returncode == 0
        assert not any("response_format" in body for body in server.bodies())
    # What was fallen back to is what --format text asks for.
    text = judged(tmp_path / "other")
    assert [r["prompt_hash"] for r in text] == [r["prompt_hash"] for r in judged(run)]
    assert str(text[0]["text"]).endswith("[6.5, 4]")


def test_an_unreadable_verdict_gets_one_more_call(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 2)
    with FakeJudge(garbage=1.0) as server:
        ended = judge(openchat, server, run)
        assert len(server.seen) == 2 * 2 * 2
        repairs = [body for body in server.bodies() if len(body["messages"]) == 4]
        assert len(repairs) == 4
    assert ended.returncode == 0, ended.stderr
    found = judged(run)
    assert {r["status"] for r in found} == {"unreadable"}
    assert {r["score"] for r in found} == {None}
    assert "can't rate" in str(found[0]["text"])
    assert json.loads(ended.stdout)["counts"]["unreadable"] == 4
    strict = judge(openchat, server, run, "--strict")
    assert strict.returncode == 1
    assert "could not be read" in strict.stderr
    assert json.loads(strict.stdout)["status"] == "failed"


def test_a_review_cut_off_is_not_read(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 4)
    with FakeJudge(truncated=0.5) as server:
        ended = judge(openchat, server, run)
    assert ended.returncode == 0, ended.stderr
    assert server.statuses["truncated"] > 0
    read = [r for r in judged(run) if r["status"] == "ok"]
    assert {r["verdict"] for r in read} == {"win"}


def test_failed_calls_are_said_and_asked_again(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 3)
    with FakeJudge(always=400) as server:
        ended = judge(openchat, server, run)
        assert ended.returncode == 3
        assert "6 of 6 judgments failed" in ended.stderr
        assert json.loads(ended.stdout)["status"] == "partial"
        assert {(r["status"], r["verdict"]) for r in judged(run)} == {("failed", None)}
        assert "HTTP 400" in str(judged(run)[0]["text"])
        server.plan.always = None
        again = judge(openchat, server, run)
    assert again.returncode == 0, again.stderr
    assert {r["status"] for r in judged(run)} == {"ok"}


def test_a_failed_answer_is_no_verdict(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = make_run(run, 3)
    broken = answers("ours", asked)
    broken[1] = Answer("2", "x", "ours", (), error="no answer in time")
    records.write(run / "answers" / "ours.jsonl", broken)
    with FakeJudge() as server:
        ended = judge(openchat, server, run)
        assert len(server.seen) == 4
    assert ended.returncode == 3
    failed = [r for r in judged(run) if r["status"] == "failed"]
    assert {(r["question_id"], r["text"]) for r in failed} == {
        ("2", "the model's answer failed: no answer in time")
    }


def test_without_a_judge_the_choices_are_named(quick: InProcess, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2)
    code, errors = quick("eval", "judge", "run", "--baseline", "base")
    assert code == 2
    assert "--judge reference" in errors
    assert "--judge-url" in errors


def test_openai_without_a_key(quick: InProcess, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2)
    code, errors = quick("eval", "judge", "run", "--baseline", "base", "--judge", "gpt-4o")
    assert code == 2
    assert "OPENAI_API_KEY" in errors
    assert "--judge reference" in errors


def test_a_refused_key(openchat: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2)
    (tmp_path / "key").write_text("sk-wrong-abcdefgh\n")
    with FakeJudge(key="sk-right") as server:
        ended = judge(openchat, server, tmp_path / "run", "--api-key-file", "key")
    assert ended.returncode == 1
    assert "the key was refused" in ended.stderr
    assert "sk-wrong" not in ended.stderr + ended.stdout
    assert not (tmp_path / "run" / "judgments").exists()


def test_judging_oneself_only_when_told(openchat: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 2, models=("fake",))
    with FakeJudge() as server:
        ended = judge(openchat, server, tmp_path / "run")
        assert ended.returncode == 2
        assert "--allow-self-judge" in ended.stderr
        assert server.seen == []
        assert judge(openchat, server, tmp_path / "run", "--allow-self-judge").returncode == 0
        # The baseline's answers are a model's own, too.
        arguments = ("run", "--baseline", "base", "--judge", "base", "--judge-url", server.url)
        ended = openchat("eval", "judge", *arguments)
        assert ended.returncode == 2
        assert "--allow-self-judge" in ended.stderr


def test_a_model_that_bears_the_baselines_name_needs_another(quick: InProcess) -> None:
    make_run(Path("run"), 2, models=("base",))
    code, errors = quick("eval", "judge", "run", "--baseline", "base", "--judge", "reference")
    assert code == 1
    assert "--name tells a model from its baseline" in errors


def test_another_judges_file_is_left_alone(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 2)
    reference = ("eval", "judge", run, "--baseline", "base", "--judge", "reference")
    assert openchat(*reference).returncode == 0
    with FakeJudge() as server:
        ended = judge(openchat, server, run)
        assert ended.returncode == 2
        assert "judged by reference" in ended.stderr
        assert server.seen == []
        assert judge(openchat, server, run, "--force").returncode == 0
    assert {r["judge"] for r in judged(run)} == {"fake"}


def test_cost_before_the_run(openchat: RunCli, tmp_path: Path) -> None:
    make_run(tmp_path / "run", 5)
    ended = openchat(
        "eval", "judge", "run", "--baseline", "base", "--judge", "gpt-4o", "--dry-run", "--json"
    )
    assert ended.returncode == 0, ended.stderr
    counts = json.loads(ended.stdout)["counts"]
    assert counts["calls"] == 10
    assert counts["cost"] == pytest.approx(
        counts["prompt_tokens"] * 2.5e-6 + counts["completion_tokens"] * 10e-6, rel=1e-3
    )
    assert not (tmp_path / "run" / ".journal").exists()
    table = openchat("eval", "judge", "run", "--baseline", "base", "--judge", "mine", "--dry-run")
    assert "no price known" in table.stdout


def test_the_budget_is_kept(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 6)
    with FakeJudge() as server:
        line = ("eval", "judge", run, "--baseline", "base", "--judge", "gpt-4o", "--judge-url",
                server.url, "--max-tokens", "100", "--json")  # fmt: skip
        # A reply of the server costs 100 · 2.5e-6 + 20 · 1e-5 = $0.00045.
        ended = openchat(*line, "--budget", "0.004")
        assert ended.returncode == 3, ended.stderr
        calls = json.loads(ended.stdout)["counts"]["calls"]
        assert 0 < calls <= 8
        assert json.loads(ended.stdout)["counts"]["usd"] <= 0.004
        more = openchat(*line, "--budget", "1")
        assert more.returncode == 0, more.stderr
        assert json.loads(more.stdout)["counts"]["calls"] == 12 - calls
        unknown = judge(openchat, server, tmp_path / "run", "--budget", "1", "--force")
        assert unknown.returncode == 2
        assert "no price is known" in unknown.stderr


# --- the reference judge ---


def test_the_reference_judge_needs_no_server(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    asked = make_run(run, 4)
    good = [
        Answer(q.question_id, f"good-{q.question_id}", "good", q.reference or ()) for q in asked
    ]
    records.write(run / "answers" / "good.jsonl", good)
    ended = openchat("eval", "judge", run, "--baseline", "base", "--judge", "reference", "--json")
    assert ended.returncode == 0, ended.stderr
    found = judged(run, "good")
    assert [r["order"] for r in found] == ["model_first"] * 4
    assert {r["score"] for r in found} == {10.0}
    assert {r["verdict"] for r in found} == {"win"}
    assert all(1.0 <= float(str(r["baseline_score"])) < 5.0 for r in found)
    assert {(r["judge"], r["protocol"]) for r in found} == {("reference", "reference")}
    assert not (run / ".journal").exists()


def test_the_reference_judge_is_chrf() -> None:
    """1 + 9 · chrF / 100, with chrF worked out by hand for one short pair."""
    from openchat_cli.evaluation.reference_judge import chrf

    # "ab" against "abc": unigrams P 1, R 2/3; bigrams P 1, R 1/2. Longer n-grams: none in "ab".
    # sacrebleu averages precision and recall over the orders that both texts have.
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    f_score = 5 * precision * recall / (4 * precision + recall)
    assert chrf("ab", "abc") == pytest.approx(100 * f_score, abs=0.01)
    assert chrf("abc", "abc") == pytest.approx(100)
    assert chrf("", "abc") == 0


def test_references_must_be_there(openchat: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, 3)
    records.write(run / "questions.jsonl", questions(3, reference=False))
    ended = openchat("eval", "judge", run, "--baseline", "base", "--judge", "reference")
    assert ended.returncode == 1
    assert "questions.jsonl: 3 questions without a reference (1, 2, 3)" in ended.stderr


# --- what is asked ---


def test_references_are_shown_for_mathematics_only() -> None:
    from openchat_cli.evaluation import prompts

    for category, shown in (("math", True), ("coding", True), ("writing", False)):
        question = Question("1", category, ("Q {{answer_2}}",), ("the solution",))
        first, second = Answer("1", "a", "m", ("one {{task}}",)), Answer("1", "b", "b", ("two",))
        asked = prompts.messages(question, first, second, "json")[1]["content"]
        assert ("the solution" in asked) == shown
        assert "Q {{answer_2}}" in asked  # a placeholder in a text stays what it is
        assert "one {{task}}" in asked
        assert asked.index("one {{task}}") < asked.index("two")
    assert prompts.prompt_hash("json") != prompts.prompt_hash("text")


def test_all_turns_are_shown() -> None:
    from openchat_cli.evaluation import prompts

    question = Question("1", "writing", ("first?", "second?"))
    answer = Answer("1", "a", "m", ("one", "two"))
    asked = prompts.messages(question, answer, answer, "text")[1]["content"]
    assert "(turn 2)\nsecond?" in asked
    assert asked.count("(turn 2)\ntwo") == 2


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("no run", "no such folder"),
        ("no baseline", "no baseline 'base'"),
        ("no answers", "no answers to compare"),
        ("wrong file", "answers were expected"),
    ],
)
def test_what_is_missing_is_named(quick: InProcess, tmp_path: Path, setup: str, said: str) -> None:
    run = tmp_path / "run"
    if setup != "no run":
        make_run(run, 2)
    if setup == "no baseline":
        (run / "baseline" / "base.jsonl").rename(run / "baseline" / "bass.jsonl")
    elif setup == "no answers":
        (run / "answers" / "ours.jsonl").unlink()
    elif setup == "wrong file":
        records.write(run / "answers" / "ours.jsonl", questions(2))
    code, errors = quick("eval", "judge", run, "--baseline", "base", "--judge", "reference")
    assert code == 1
    assert said in errors
    assert "Traceback" not in errors
