"""The report, through its public door: run folders in, report.json and report.html out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from openchat_cli.core import records
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.records import Answer, Judgment, Question
from openchat_cli.evaluation.report import COLUMNS, ReportSummary, build_report
from openchat_cli.evaluation.settings import ReportSettings
from tests.conftest import SHARED
from tests.evaluation.report_rows import (
    BASELINE,
    MODEL,
    answers,
    both,
    judgment,
    question,
    write_run,
)

SHELL = 60_000  # bytes of a page, less the texts it shows


def build(*runs: Path, **more: Any) -> ReportSummary:
    return build_report(ReportSettings(runs=runs, bootstrap=500, force=True, **more))


def only(summary: ReportSummary) -> dict[str, str]:
    """The one row of the terminal's table."""
    (row,) = summary.rows
    return dict(zip(COLUMNS, (cell.replace("\n", " ") for cell in row), strict=True))


def read(summary: ReportSummary) -> dict[str, Any]:
    return dict(json.loads(summary.outputs[0].read_text()))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four questions in both orders: a win, a flip that balances to a tie, a loss, a win."""
    questions = [question("1", "cooking"), question("2", "cooking"), question("3"), question("4")]
    judgments = [
        *both("1", (9, 5), (8, 6)),
        *both("2", (8, 6), (6, 8)),
        *both("3", (3, 7), (4, 8)),
        *both("4", (9, 9), (9, 7)),
    ]
    return write_run(tmp_path / "run", questions, judgments)


# --- figures ---


def test_the_figures_of_a_small_run(small: Path) -> None:
    summary = build(small)
    row = only(summary)
    # Σ model = 8.5 + 7 + 3.5 + 9 = 28, Σ baseline = 5.5 + 7 + 7.5 + 8 = 28
    assert row["score %"].startswith("100.0 [")
    assert row["model"] == "tiny vs before by judge-1"
    assert row["win/tie/loss"] == "2/1/1 62.5 ± 23.9 %"
    assert (row["n"], row["EOT"]) == ("4", "100 %")
    assert row["flips"] == "2 of 4"
    (comparison,) = read(summary)["comparisons"]
    assert comparison["both_orders"]["agreed"] == [1, 2, 1]
    assert comparison["both_orders"]["matrix"] == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert comparison["overall"]["difference"]["value"] == 0
    assert comparison["overall"]["standing"] == "not distinguishable"
    assert all("standing" in of_it for of_it in comparison["categories"].values())
    assert comparison["judge"] == "judge-1"
    assert comparison["judged"] == ["2026-03-01T10:00:00Z"] * 2
    assert comparison["prompts"] == "own prompts"
    assert any("Not distinguishable from 100 % at n = 4" in note for note in summary.notes)


def test_categories_have_their_own_figures(small: Path) -> None:
    summary = build(small)
    assert [(row[0], row[1].split()[0], row[2], row[3]) for row in summary.category_rows] == [
        ("cooking", "124.0", "1/1/0", "2"),
        ("general", "80.6", "1/0/1", "2"),
    ]


def test_every_question_left_out_has_its_reason(tmp_path: Path) -> None:
    questions = [question(str(number)) for number in range(1, 10)]
    model = answers(questions, MODEL, "a")
    model[1] = dataclasses.replace(model[1], turns=(), error="out of memory")
    model[6] = dataclasses.replace(model[6], answer_id="a-new")
    baseline = answers(questions, BASELINE, "b")
    baseline[2] = dataclasses.replace(baseline[2], turns=(), error="refused")
    judgments = [
        *both("1", (8, 6), (8, 6)),
        judgment("4", status="unreadable"),
        judgment("4", 7, 6, order="baseline_first"),
        judgment("5", status="failed"),
        judgment("6", 8, 7),
        *both("7", (9, 1), (9, 1)),
        *both("9", (5, 5), (5, 5)),
    ]
    run = write_run(tmp_path, questions, judgments, model=model, baseline=baseline)
    summary = build(run)
    (comparison,) = read(summary)["comparisons"]
    reasons = {row["question_id"]: row["excluded"] for row in comparison["questions"]}
    assert reasons == {
        "1": None,
        "2": "no answer from the model",
        "3": "no answer from the baseline",
        "4": "verdict could not be read",
        "5": "judge call failed",
        "6": "judged in one order only",
        "7": "answer changed after it was judged",
        "8": "not judged",
        "9": None,
    }
    assert comparison["overall"]["n"] == 2
    assert sum(comparison["excluded"].values()) == 7
    assert only(summary)["n"] == "2 of 9"
    assert summary.counts["judgments_without_verdict"] == 2
    page = summary.outputs[1].read_text()
    assert all(reason in page for reason in reasons.values() if reason)


def test_samples_of_a_question_stay_together(tmp_path: Path) -> None:
    """Ten samples of each question leave the interval as wide as one does."""
    questions = [question(str(number)) for number in range(8)]
    scores = [(9, 7), (5, 7), (8, 7), (4, 7), (6, 7), (9, 8), (3, 6), (7, 7)]
    once = [j for q, s in zip(questions, scores, strict=True) for j in both(q.question_id, s, s)]
    often = [dataclasses.replace(j, sample=sample) for j in once for sample in range(10)]
    first = build(write_run(tmp_path / "once", questions, once))
    second = build(write_run(tmp_path / "often", questions, often))
    assert only(first)["score %"] == only(second)["score %"]


def test_a_judgment_made_anew_replaces_the_old_one(tmp_path: Path) -> None:
    run = write_run(
        tmp_path,
        [question("1")],
        [judgment("1", status="failed"), judgment("1", 8, 4), judgment("1", 6, 4)],
    )
    row = only(build(run))
    assert (row["score %"], row["n"]) == ("150.0", "1")


def test_judges_protocols_and_prompts_are_never_mixed(tmp_path: Path) -> None:
    judgments = [
        judgment("1", 8, 4),
        judgment("1", 4, 8, judge="judge-2"),
        judgment("1", 4, 4, prompt_hash="other"),
        judgment("1", verdict="win", protocol="verdict"),
    ]
    summary = build(write_run(tmp_path, [question("1")], judgments))
    assert sorted(row[COLUMNS.index("score %")] for row in summary.rows) == [
        "-",
        "100.0",
        "200.0",
        "50.0",
    ]


def test_a_failed_call_without_a_prompt_belongs_to_its_judge(tmp_path: Path) -> None:
    judgments = [judgment("2", status="failed", prompt_hash=""), judgment("1", 8, 4)]
    row = only(build(write_run(tmp_path, [question("1"), question("2")], judgments)))
    assert row["n"] == "1 of 2"


def test_verdicts_without_scores_count_as_wins_only_where_both_orders_agree(tmp_path: Path) -> None:
    judgments = [
        judgment("1", verdict="win"),
        judgment("1", verdict="win", order="baseline_first"),
        judgment("2", verdict="win"),
        judgment("2", verdict="loss", order="baseline_first"),
    ]
    row = only(build(write_run(tmp_path, [question("1"), question("2")], judgments)))
    assert row["score %"] == "-"
    assert row["win/tie/loss"] == "1/1/0 75.0 ± 25.0 %"


def test_the_reference_judge_says_that_no_llm_judged(tmp_path: Path) -> None:
    judgments = [judgment(str(n), 6, 2, judge="reference", prompt_hash="") for n in range(3)]
    run = write_run(tmp_path, [question(str(n)) for n in range(3)], judgments)
    summary = build(run)
    assert summary.notes[0].startswith("No LLM judged")
    assert "by reference (no LLM)" in only(summary)["model"]
    assert not any("one order" in note for note in summary.notes)
    page = summary.outputs[1].read_text()
    assert "No LLM judged these answers." in page
    assert "own prompts" not in page
    (comparison,) = read(summary)["comparisons"]
    assert comparison["overall"]["standing"] == "ahead"


def test_one_order_and_a_judge_of_itself_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, [question("1")], [judgment("1", 6, 2, judge=BASELINE)])
    notes = " ".join(build(run).notes)
    assert "one order only" in notes
    assert "one of the two models it judges" in notes


def test_answers_that_ran_into_the_limit_are_counted(tmp_path: Path) -> None:
    questions = [question(str(number)) for number in range(4)]
    model = answers(questions, MODEL, "a")
    model[0] = dataclasses.replace(model[0], finish_reasons=("length",))
    judgments = [judgment(q.question_id, 5, 5) for q in questions]
    summary = build(write_run(tmp_path, questions, judgments, model=model))
    assert only(summary)["EOT"] == "75 %"
    assert "(cut off at the token limit)" in summary.outputs[1].read_text()


def test_several_runs_are_told_apart_and_share_their_questions(small: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", [question("1", "cooking")], [judgment("1", 9, 3)])
    summary = build(small, other)
    assert summary.outputs[0].parent == small
    assert [c["run"] for c in read(summary)["comparisons"]] == ["other", "run"]
    page = summary.outputs[1].read_text()
    assert page.count('id="q-1"') == 1
    assert page.count('class="pair') == 5


def test_it_works_without_questions_and_answers(tmp_path: Path) -> None:
    (tmp_path / "judgments").mkdir()
    records.write(tmp_path / "judgments/x.jsonl", both("7", (8, 6), (8, 6)))
    summary = build(tmp_path)
    assert only(summary)["score %"] == "133.3"
    assert "The answer is not in this run." in summary.outputs[1].read_text()


# --- the door ---


def test_the_same_run_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    first = [path.read_bytes() for path in build(small, out=tmp_path / "a").outputs]
    second = [path.read_bytes() for path in build(small, out=tmp_path / "b").outputs]
    assert first == second


def test_outputs_are_not_overwritten_unasked(small: Path) -> None:
    build(small)
    with pytest.raises(UsageError, match="already there"):
        build_report(ReportSettings(runs=(small,)))


@pytest.mark.parametrize("make", ["nothing", "a file", "an empty folder", "no rows"])
def test_a_folder_without_judgments_is_named(tmp_path: Path, make: str) -> None:
    run = tmp_path / "run"
    if make == "a file":
        run.write_text("x")
    elif make == "an empty folder":
        run.mkdir()
    elif make == "no rows":
        write_run(run, [question("1")], [])
    with pytest.raises(InputError) as caught:
        build(run)
    assert str(run) in caught.value.message
    assert caught.value.hint is not None and "eval judge" in caught.value.hint
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_wrong_file_is_named(small: Path) -> None:
    records.write(small / "judgments/wrong.jsonl", [question("1")])
    with pytest.raises(InputError, match="wrong.jsonl: holds questions, judgments were expected"):
        build(small)


# --- the page ---

HOSTILE = [
    "<script>window.__xss=1</script>",
    "</script><script>window.__xss=2</script>",
    "<img src=x onerror=window.__xss=3>",
    "[a](javascript:window.__xss=4) <javascript:alert(1)> [b](data:text/html,x)",
    "![i](https://example.org/track.png) ![j](javascript:x)",
    "<style>body{display:none}</style><p style='position:fixed'>",
    "invoice\u202egpj.exe \u2066isolated\u2069",
    "</details></section></main><h1>mine</h1>",
    "\"><svg/onload=window.__xss=5> ' onfocus=x autofocus",
    "]]> <!-- <![CDATA[ --> <iframe srcdoc=x> <base href=//example.org>",
    "\x00\x1b[31m \ud800 \ufeff",
    "x" * 1_000_000,
    "[" * 100_000,
]


def hostile_run(folder: Path) -> Path:
    """A run in which every text that others wrote is hostile, ids, names and reviews included."""
    model, baseline = f"m{HOSTILE[0]}", f"b{HOSTILE[7]}"
    questions = [
        Question(f"{i}{text[:60]}", text[:80], (text[:9000],), (text,))
        for i, text in enumerate(HOSTILE)
    ]
    judgments = [
        judgment(
            q.question_id,
            *((8, 6) if index else (None, None)),
            model=model,
            baseline=baseline,
            text=text,
            judge=f"j{HOSTILE[2]}",
            created=HOSTILE[8],
            status="ok" if index else "unreadable",
        )
        for index, (q, text) in enumerate(zip(questions, HOSTILE, strict=True))
    ]
    return write_run(
        folder,
        questions,
        judgments,
        model=answers(questions, model, "a", HOSTILE, finish_reasons=(HOSTILE[1],)),
        baseline=answers(questions, baseline, "b", HOSTILE, error=HOSTILE[2]),
    )


class Page(HTMLParser):
    """Every element and attribute of a page, and that its elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "input", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_hostile_text_stays_inert(tmp_path: Path) -> None:
    summary = build(hostile_run(tmp_path))
    text = summary.outputs[1].read_text("utf-8")
    page = Page(text)
    assert not page.open
    names = [name for name, _ in page.elements]
    assert names.count("script") == 1 and names.count("style") == 1 and names.count("h1") == 1
    assert not {"img", "iframe", "object", "embed", "form", "base", "video"} & set(names)
    for name, attributes in page.elements:
        assert not [a for a in attributes if a.startswith("on") or a in ("style", "autofocus")]
        assert "src" not in attributes and "srcdoc" not in attributes
        target = attributes.get("href") or "#"
        assert target.startswith(("#", "https://", "http://", "mailto:", "data:,")), (name, target)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for character in "\u202e\u2066\x00\x1b":
        assert character not in text
    assert "[U+202E]" in text


def test_the_page_asks_nobody(small: Path) -> None:
    text = build(small).outputs[1].read_text()
    assert "http://" not in text and "https://" not in text
    policies = [a for name, a in Page(text).elements if "http-equiv" in a]
    assert "default-src 'none'" in str(policies[0]["content"])


def test_the_shell_is_small(tmp_path: Path) -> None:
    run = write_run(tmp_path, [question("1")], both("1", (8, 6), (7, 6)))
    assert build(run).outputs[1].stat().st_size < SHELL


def test_both_answers_the_reference_and_every_review_are_on_the_page(tmp_path: Path) -> None:
    questions = [Question("oc-1", "two turns", ("first?", "second?"), ("ref one", "ref two"))]
    model = [Answer("oc-1", "a-oc-1", MODEL, ("**bold** one", "two"), finish_reasons=("stop",) * 2)]
    baseline = [Answer("oc-1", "b-oc-1", BASELINE, ("base one", "base two"))]
    run = write_run(
        tmp_path,
        questions,
        [
            judgment("oc-1", 8, 6, text="8 6\nsaid one"),
            judgment("oc-1", 6, 8, order="baseline_first", text="said two"),
        ],
        model=model,
        baseline=baseline,
    )
    text = build(run).outputs[1].read_text()
    for part in (
        "first?",
        "second?",
        "ref one",
        "ref two",
        "<strong>bold</strong> one",
        "base two",
    ):
        assert part in text, part
    assert "8 6\nsaid one" in text and "said two" in text
    assert "shown first (Assistant 1): before; second (Assistant 2): tiny" in text
    assert "flips with the order: win when first, loss when second" in text
    assert 'id="q-oc-1"' in text


@pytest.mark.skipif(not (SHARED / "eval").is_dir(), reason="no published reviews in ../shared/data")
def test_published_reviews_give_the_published_row(tmp_path: Path) -> None:
    """Vicuna-13B against ChatGPT, both orders: balanced 94.9 %, conflict 42 of 80."""
    folder = SHARED / "eval"

    def rows(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    questions = list(records.read(folder / "vicuna/question.jsonl", Question))
    baseline = list(records.read(folder / "vicuna/answer/answer_gpt35.jsonl", Answer))
    model = list(records.read(folder / "vicuna/answer/answer_vicuna-13b.jsonl", Answer))
    ids = {answer.question_id: answer.answer_id for answer in model}
    chatgpt = {answer.answer_id for answer in baseline}
    judgments: list[Judgment] = []
    for name in ("gpt-3.5-vs-vicuna-13b", "vicuna-13b-vs-gpt-3.5"):
        for row in rows(f"qlora/reviews/{name}-gpt4-reviewer.jsonl"):
            first = row["answer2_id"] in chatgpt
            scores = row["score"] if first else row["score"][::-1]
            key = str(row["question_id"])
            judgments.append(
                judgment(
                    key,
                    *scores,
                    order="model_first" if first else "baseline_first",
                    model=model[0].model,
                    baseline=baseline[0].model,
                    answer_id=ids[key],
                    baseline_answer_id=row["answer2_id" if first else "answer1_id"],
                    text=row["text"],
                    judge="gpt-4",
                )
            )
    run = write_run(tmp_path, questions, judgments, model=model, baseline=baseline)
    row = only(build(run))
    assert row["score %"].startswith("94.9 [")
    assert (row["n"], row["flips"]) == ("80", "42 of 80")
