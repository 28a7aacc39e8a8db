"""The report's questions: both answers side by side, the reference, every review, why excluded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from openchat_cli.core.progress import Task
from openchat_cli.core.records import Answer, Judgment, Question
from openchat_cli.evaluation.comparison import Comparison
from openchat_cli.evaluation.figures import VERDICTS, Item
from openchat_cli.evaluation.run_files import AnswerSet, Run
from openchat_cli.evaluation.statistics import judgment_verdict
from openchat_cli.web import markdown
from openchat_cli.web.html import Html, identifier, join, tag

_SIGNS = {"win": "▲", "tie": "=", "loss": "▼", "excluded": "–"}
_CHIPS = 2  # beyond this many comparisons a question's line counts its verdicts
_TITLE = 160  # characters of a question on its line

Render = Callable[[str], Html]


@dataclass(slots=True)
class _Entry:
    """One question with what each comparison says of it."""

    question: Question
    pairs: list[tuple[int, Comparison, Item, Run]] = field(default_factory=list)


def question_list(comparisons: Sequence[Comparison], runs: Sequence[Run], task: Task) -> Html:
    """The section with the filters and every question."""
    entries = _entries(comparisons, {run.name: run for run in runs})
    render = functools.cache(markdown.render)  # a baseline's answer is shown once a comparison
    taken: dict[str, int] = {}
    questions = []
    for entry in entries:
        questions.append(_question(entry, _anchor(entry.question.question_id, taken), render))
        task.advance(len(entry.pairs))
    categories = list(dict.fromkeys(entry.question.category for entry in entries))
    return tag(
        "section",
        tag("h2", "Questions"),
        _filters(comparisons, categories, len(entries)),
        *questions,
        id="questions",
    )


def _entries(comparisons: Sequence[Comparison], runs: dict[str, Run]) -> list[_Entry]:
    """Questions in the benchmark's order; runs that asked the same share an entry."""
    entries: dict[tuple[str, tuple[str, ...]], _Entry] = {}
    for index, comparison in enumerate(comparisons):
        run = runs[comparison.run]
        for item in comparison.items:
            known = run.questions.get(item.question_id)
            question = known or Question(item.question_id, item.category, ())
            key = (question.question_id, question.turns)
            entry = entries.setdefault(key, _Entry(question))
            entry.pairs.append((index, comparison, item, run))
    return list(entries.values())


def _anchor(question_id: str, taken: dict[str, int]) -> str:
    """The id of a question on the page, for links to it: `q-` and the question's own id."""
    anchor = f"q-{identifier(question_id)}"
    taken[anchor] = taken.get(anchor, 0) + 1
    return anchor if taken[anchor] == 1 else f"{anchor}..{taken[anchor]}"


# --- the filters ---


def _filters(comparisons: Sequence[Comparison], categories: Sequence[str], total: int) -> Html:
    outcomes = [
        *((str(verdict), str(verdict)) for verdict in VERDICTS),
        ("conflict", "flips with order"),
        ("excluded", "excluded"),
    ]
    models = [(str(index), comparison.label) for index, comparison in enumerate(comparisons)]
    sorts = [("order", "benchmark order"), ("gap", "largest gap"), ("entropy", "least certain")]
    return tag(
        "div",
        tag(
            "label",
            tag("span", "Search questions, answers and reviews ( / )", class_="hidden"),
            tag("input", type="search", id="search", placeholder="Search  ( / )"),
        ),
        _select("comparison", "Comparison", [("", "all comparisons"), *models], len(models) > 1),
        _select("category", "Category", [("", "all categories"), *((c, c) for c in categories)]),
        _select("outcome", "Verdict", [("", "any verdict"), *outcomes]),
        _select("sort", "Sort", sorts),
        tag("output", f"{total} of {total}", id="count", aria_live="polite"),
        tag("button", "Open all", type="button", id="all"),
        tag("span", "j / k: next, previous", class_="muted small"),
        id="filters",
        class_="noprint",
        hidden=True,
    )


def _select(name: str, label: str, options: Sequence[tuple[str, str]], useful: bool = True) -> Html:
    choices = [tag("option", text, value=value) for value, text in options]
    word = tag("span", label, class_="hidden")
    return tag("label", word, tag("select", *choices, id=name), hidden=not useful)


# --- one question ---


def _question(entry: _Entry, anchor: str, render: Render) -> Html:
    question = entry.question
    title = " ".join((question.turns or (f"question {question.question_id}",))[0].split())
    short = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    line = tag(
        "summary",
        tag("span", question.question_id, class_="id"),
        tag("h3", short, dir="auto"),
        tag("span", question.category, class_="muted small"),
        tag("span", *_chips(entry), class_="chips"),
    )
    gaps = [_gap(item) for _, _, item, _ in entry.pairs]
    return tag(
        "details",
        line,
        *_prompt(question, render),
        *(_pair(question, pair, render) for pair in entry.pairs),
        tag("p", tag("a", "Link to this question", href=f"#{anchor}"), class_="small noprint"),
        class_="question",
        id=anchor,
        data_category=question.category,
        data_gap=max(gaps, default=0.0),
        data_entropy=max((item.entropy or 0.0 for _, _, item, _ in entry.pairs), default=0.0),
    )


def _gap(item: Item) -> float:
    if item.score is None or item.baseline_score is None:
        return 0.0
    return abs(item.score - item.baseline_score)


def _chips(entry: _Entry) -> list[Html]:
    outcomes = [item.verdict or "excluded" for _, _, item, _ in entry.pairs]
    if len(outcomes) > _CHIPS:
        counted = [(name, outcomes.count(name)) for name in _SIGNS if name in outcomes]
        return [_chip(name, f"{count} {name}") for name, count in counted]
    return [
        _chip(item.verdict or "excluded", f"{item.verdict or 'excluded'} {_scores(item)}".rstrip())
        for _, _, item, _ in entry.pairs
    ]


def _chip(outcome: str, text: str) -> Html:
    sign = tag("span", _SIGNS[outcome], aria_hidden="true")
    return tag("span", sign, f" {text}", class_=f"chip {outcome}")


def _scores(item: Item) -> str:
    if item.score is None or item.baseline_score is None:
        return ""
    return f"{item.score:.3g} : {item.baseline_score:.3g}"


def _prompt(question: Question, render: Render) -> Iterator[Html]:
    if not question.turns:
        yield tag("p", "The run holds no questions.jsonl, so the question is not shown.")
    for number, turn in enumerate(question.turns, 1):
        head = "Question" if len(question.turns) == 1 else f"Question, turn {number}"
        yield tag("h4", head)
        yield _text(markdown.plain(turn), "text prompt")
    if question.reference:
        body = [_text(render(text)) for text in question.reference]
        yield tag("details", tag("summary", "Reference answer"), *body, class_="more")


def _text(body: Html, style: str = "text") -> Html:
    """A model's or a person's text: its own direction, and the keyboard can scroll it."""
    return tag("div", body, class_=style, dir="auto", tabindex=0)


def _pair(question: Question, pair: tuple[int, Comparison, Item, Run], render: Render) -> Html:
    index, comparison, item, run = pair
    outcome = item.verdict or "excluded"
    facts = [f"{comparison.model}: {outcome} {_scores(item)}".rstrip()]
    if item.excluded:
        facts.append(item.excluded)
    if item.by_order and item.conflict:
        facts.append(
            f"flips with the order: {item.by_order[0]} when first, {item.by_order[1]} when second"
        )
    columns = tag(
        "div",
        _answers(question, comparison.model, run.answers.get(comparison.model), item, render),
        _answers(question, comparison.baseline, run.baseline(comparison.baseline), item, render),
        class_="two",
    )
    reviews = [_review(comparison, judgment) for judgment in item.judgments]
    label = "1 review" if len(reviews) == 1 else f"{len(reviews)} reviews"
    more = tag("details", tag("summary", label), *reviews, class_="more") if reviews else Html("")
    return tag(
        "section",
        tag("h4", tag("span", _SIGNS[outcome], aria_hidden="true"), " ", "; ".join(facts)),
        columns,
        more,
        class_=f"pair {outcome}",
        data_comparison=index,
        data_outcome=f"{outcome} conflict" if item.conflict else outcome,
    )


def _answers(
    question: Question, model: str, answers: AnswerSet | None, item: Item, render: Render
) -> Html:
    judged = {j.answer_id for j in item.judgments} | {j.baseline_answer_id for j in item.judgments}
    mine = answers.by_question.get(question.question_id, ()) if answers else ()
    shown = [answer for answer in mine if answer.answer_id in judged] or mine
    body = [_answer(answer, render) for answer in shown]
    if not body:
        body = [tag("p", "The answer is not in this run.", class_="muted")]
    return tag("article", tag("h5", model), *body, class_="answer")


def _answer(answer: Answer, render: Render) -> Html:
    parts: list[Html] = []
    for number, turn in enumerate(answer.turns, 1):
        if len(answer.turns) > 1:
            parts.append(tag("p", f"Turn {number}", class_="muted small"))
        parts.append(_text(render(turn)))
        reason = (*answer.finish_reasons, *[""] * number)[number - 1]
        if reason not in ("", "stop"):
            parts.append(tag("p", _ending(reason), class_="muted small"))
    if answer.error is not None:
        parts.append(tag("p", f"No answer: {answer.error}", class_="muted"))
    return join(parts)


def _ending(reason: str) -> str:
    return "(cut off at the token limit)" if reason == "length" else f"(ended: {reason})"


def _review(comparison: Comparison, judgment: Judgment) -> Html:
    first, second = comparison.model, comparison.baseline
    if judgment.order == "baseline_first":
        first, second = second, first
    verdict = judgment_verdict(judgment)
    said = verdict or {"failed": "the call failed"}.get(judgment.status, "no readable verdict")
    if judgment.score is not None and judgment.baseline_score is not None:
        said += f" {judgment.score:.3g} : {judgment.baseline_score:.3g}"
    head = f"{judgment.judge}, sample {judgment.sample + 1}: {said}"
    order = f"shown first (Assistant 1): {first}; second (Assistant 2): {second}"
    return tag(
        "div",
        tag("p", tag("b", head), tag("br"), tag("span", order, class_="muted small")),
        _text(markdown.plain(judgment.text)),
        class_="review",
    )
