"""`openchat eval import`: others' reviews, oriented by the ids of the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core import records
from openchat_cli.core.records import Judgment
from tests.conftest import RunCli
from tests.evaluation.conftest import InProcess
from tests.evaluation.runs import rows


def fastchat_answers(path: Path, model: str, ids: str, count: int = 3) -> Path:
    lines = [
        {"question_id": n, "text": f"{model} {n}", "answer_id": f"{ids}{n}", "model_id": model}
        for n in range(1, count + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reviews(path: Path, first: str, second: str, scores: list[Any]) -> Path:
    lines = [
        {
            "question_id": n,
            "answer1_id": f"{first}{n}",
            "answer2_id": f"{second}{n}",
            "text": f"{score[0]} {score[1]}\nBoth are fine.",
            "score": score,
        }
        for n, score in enumerate(scores, 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_ids_tell_who_is_who(openchat: RunCli, tmp_path: Path) -> None:
    base = fastchat_answers(tmp_path / "answer_base.jsonl", "base:v1", "b")
    ours = fastchat_answers(tmp_path / "ours.jsonl", "ours", "o")
    # Named in the opposite order to what they hold.
    one = reviews(tmp_path / "base-vs-ours.jsonl", "o", "b", [[9, 8], [7, 7], [2, 10]])
    two = reviews(tmp_path / "ours-vs-base.jsonl", "b", "o", [[8, 9], [6, 5], [10, 1]])
    again = reviews(tmp_path / "more.jsonl", "o", "b", [[5, 6]])
    other = reviews(tmp_path / "other.jsonl", "o", "z", [[1, 2]])
    ended = openchat(
        "eval", "import", one, two, again, other, "run",
        "--answers", base, "--answers", ours, "--baseline", "base", "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "left out 1 reviews: not about the baseline" in ended.stderr
    found = rows(tmp_path / "run" / "judgments" / "ours_vs_base.jsonl")
    assert [
        (r["question_id"], r["order"], r["sample"], r["score"], r["baseline_score"], r["verdict"])
        for r in found
    ] == [
        ("1", "model_first", 0, 9.0, 8.0, "win"),
        ("2", "model_first", 0, 7.0, 7.0, "tie"),
        ("3", "model_first", 0, 2.0, 10.0, "loss"),
        ("1", "baseline_first", 0, 9.0, 8.0, "win"),
        ("2", "baseline_first", 0, 5.0, 6.0, "loss"),
        ("3", "baseline_first", 0, 1.0, 10.0, "loss"),
        ("1", "model_first", 1, 5.0, 6.0, "loss"),
    ]
    assert {row["model"] for row in rows(tmp_path / "run" / "baseline" / "base.jsonl")} == {"base"}
    assert len(rows(tmp_path / "run" / "answers" / "ours.jsonl")) == 3


def test_scores_that_were_lost(openchat: RunCli, tmp_path: Path) -> None:
    base = fastchat_answers(tmp_path / "base.jsonl", "base", "b")
    ours = fastchat_answers(tmp_path / "ours.jsonl", "ours", "o")
    path = reviews(tmp_path / "r.jsonl", "o", "b", [[9, 8], [7, 7], [2, 3]])
    lines = rows(path)
    lines[0].update(score=[-1, -1], text="Fine.\nAssistant 1: 9 (good)\nAssistant 2: 8 (less)")
    lines[1]["score"] = [7.5, 7]  # mended by hand
    del lines[2]["score"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = ("eval", "import", path, "run", "--answers", base, "--answers", ours,
            "--baseline", "base", "--json")  # fmt: skip
    ended = openchat(*line)
    counts = json.loads(ended.stdout)["counts"]
    assert (counts["lost"], counts["mended"], counts["unreadable"]) == (1, 1, 1)
    assert "--reread" in ended.stderr
    found = rows(tmp_path / "run" / "judgments" / "ours_vs_base.jsonl")
    assert [(r["status"], r["score"]) for r in found] == [
        ("unreadable", None),
        ("ok", 7.5),
        ("ok", 2.0),
    ]
    assert openchat(*line, "--reread").returncode == 2  # already there
    assert openchat(*line, "--reread", "--force").returncode == 0
    found = rows(tmp_path / "run" / "judgments" / "ours_vs_base.jsonl")
    assert (found[0]["status"], found[0]["score"], found[0]["baseline_score"]) == ("ok", 9.0, 8.0)


def original_result(number: int, raw_a: Any, raw_b: Any) -> dict[str, Any]:
    return {
        "answer_model": "/models/openchat/",
        "answer": f"answer {number}",
        "question_id": number,
        "text": f"question {number}?",
        "category": "math",
        "score": {
            "score": [0, 0],
            "raw_a": raw_a,
            "raw_b": raw_b,
            "reviewer": {"reviewer_id": "gpt-4-math", "kwargs": {"model": "gpt-4"}},
        },
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of the original: its scores are oriented, its reviews are not."""
    lines = [
        original_result(1, [[8, 7], "x\n[8, 7]"], [[9, 6], "x\n[6, 9]"]),
        original_result(2, [[0.0, 0.0], "Assistant 1: 5\nAssistant 2: 9"], [[7, 7], "[7, 7]"]),
        original_result(3, [[1, 2], "[1, 2]"], [[0, 0], "Assistant 1: 3\nAssistant 2: 4"]),
        {"answer_model": "/models/openchat", "answer": "a", "question_id": 4, "text": "q"},
    ]
    path = tmp_path / "openchat_VS_base.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_results_of_the_original(openchat: RunCli, tmp_path: Path, results: Path) -> None:
    ended = openchat("eval", "import", results, "run", "--baseline", "gpt-3.5", "--reread")
    assert ended.returncode == 0, ended.stderr
    found = rows(tmp_path / "run" / "judgments" / "openchat_vs_gpt-3.5.jsonl")
    assert [(r["order"], r["score"], r["baseline_score"], r["status"]) for r in found] == [
        ("model_first", 8.0, 7.0, "ok"),
        ("baseline_first", 9.0, 6.0, "ok"),
        ("model_first", 5.0, 9.0, "ok"),
        ("baseline_first", 7.0, 7.0, "ok"),
        ("model_first", 1.0, 2.0, "ok"),
        ("baseline_first", 4.0, 3.0, "ok"),  # its text names the baseline first
    ]
    assert {r["judge"] for r in found} == {"gpt-4"}
    asked = rows(tmp_path / "run" / "questions.jsonl")
    assert (asked[0]["question_id"], asked[0]["turns"]) == ("1", ["question 1?"])
    answers = rows(tmp_path / "run" / "answers" / "openchat.jsonl")
    assert answers[0]["turns"] == ["answer 1"]


def test_results_are_read_wherever_judgments_are(results: Path) -> None:
    whole = results.read_text().splitlines()[:3]
    results.write_text("\n".join(whole))
    found = list(records.read(results, Judgment))
    assert [(j.order, j.score, j.status) for j in found][1:3] == [
        ("baseline_first", 9.0, "ok"),
        ("model_first", None, "unreadable"),
    ]


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        ("no review", 1, "not a review"),
        ("our answers", 1, "r.jsonl:1: holds rows of kind 'answer', reviews were expected"),
        ("other answers", 1, "no review is about an answer of 'base'"),
        ("other baseline", 2, "none of the files of --answers is of 'bose'"),
    ],
)
def test_what_does_not_fit(
    quick: InProcess, tmp_path: Path, setup: str, code: int, said: str
) -> None:
    base = fastchat_answers(tmp_path / "base.jsonl", "base", "b")
    path = reviews(tmp_path / "r.jsonl", "o", "b", [[9, 8]])
    if setup == "no review":
        path = base
    if setup == "our answers":
        path.write_text('{"kind": "answer", "version": 1}\n')
    if setup == "other answers":
        path = reviews(path, "x", "y", [[1, 2]])
    name = "bose" if setup == "other baseline" else "base"
    ended, errors = quick("eval", "import", path, "run", "--answers", base, "--baseline", name)
    assert ended == code
    assert said in errors


PUBLISHED = [
    # reviews, the model's answers, and score % with the model first, the baseline first, both
    ("vicuna/review/review_gpt35_vicuna-13b", "answer_vicuna-13b", None, 92.06, 92.06),
    ("qlora/reviews/*vicuna-13b*", "answer_vicuna-13b", 98.7, 91.2, 94.9),
    ("qlora/reviews/*13b-guanaco*", "13b-guanaco*", 93.4, 87.3, 90.4),
    ("qlora/reviews/*gpt4-*", "answer_gpt4", 119.4, 110.1, None),
]


@pytest.mark.parametrize("pattern, answers, first, second, both", PUBLISHED)
def test_published_figures(
    openchat: RunCli,
    tmp_path: Path,
    shared_data: Path,
    pattern: str,
    answers: str,
    first: float | None,
    second: float | None,
    both: float | None,
) -> None:
    data = shared_data / "eval"
    files = sorted(data.glob(f"{pattern}.jsonl"))
    if "gpt4-" in pattern:
        files = [path for path in files if "gpt4-vs-gpt-3.5" in path.name or "vs-gpt4" in path.name]
    model = next((data / "qlora" / "generations").glob(f"{answers}.jsonl"))
    base = data / "qlora" / "generations" / "answer_gpt35.jsonl"
    ended = openchat(
        "eval", "import", *files, "run", "--answers", base, "--answers", model,
        "--baseline", "gpt35",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (path,) = (tmp_path / "run" / "judgments").iterdir()
    found = [row for row in rows(path) if row["status"] == "ok"]
    for order, expected in (("model_first", first), ("baseline_first", second), (None, both)):
        scored = [row for row in found if order in (None, row["order"])]
        if expected is not None:
            percent = (
                100 * sum(r["score"] for r in scored) / sum(r["baseline_score"] for r in scored)
            )
            assert percent == pytest.approx(expected, abs=0.05)
