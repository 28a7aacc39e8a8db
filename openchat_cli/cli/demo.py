"""`openchat demo`: the whole road on bundled pages, from raw chats to a served, judged model."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from openchat_cli import __version__
from openchat_cli.cli import demo_runner, demo_steps
from openchat_cli.cli.demo_steps import TRAINED, UNTRAINED, Step
from openchat_cli.cli.options import JsonFlag, QuietFlag
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core import jsonl, records
from openchat_cli.core.errors import UsageError, need
from openchat_cli.core.records import Answer, Question

_ASSETS = Path(__file__).parent.parent / "assets"
_FOLDERS = ("pages", "data", "base", "prepared", "model", "eval")
_MARK = "demo.json"  # a folder that has it was made by a demo
_NEEDED = ("torch", "transformers", "deepspeed", "uvicorn", "starlette")


def demo(
    folder: Annotated[
        Path,
        typer.Argument(metavar="[DIR]", help="Where it all goes; an earlier demo there is redone."),
    ] = Path("demo"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the commands that would run.")
    ] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Walk the whole road on bundled pages: no key, no network, no GPU, under three minutes.

    \b
    openchat demo
    openchat demo /tmp/demo --json | jq .counts.score
    """
    with Terminal("demo", json_output=json_, quiet=quiet) as terminal:
        if dry_run:
            _list(terminal, folder)
            return
        need("openchat demo", "train,serve", *_NEEDED)
        _Demo(terminal, folder, quiet=quiet).walk()


def _list(terminal: Terminal, folder: Path) -> None:
    port = 18888
    steps = [
        *demo_steps.before_serving(folder),
        demo_steps.serving(folder, port),
        *demo_steps.while_serving(folder, _url(port)),
        *demo_steps.after_serving(folder),
    ]
    for step in steps:
        terminal.note(step.line)
    terminal.done(counts={"commands": [step.line for step in steps]}, status="dry-run")


class _Demo:
    """One walk along the road, and what is told of it."""

    def __init__(self, terminal: Terminal, folder: Path, *, quiet: bool) -> None:
        self._terminal = terminal
        self._folder = folder
        self._quiet = quiet
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._counts: dict[str, Any] = {}
        self._seconds: dict[str, float] = {}

    def walk(self) -> None:
        """Every step, then the summary; a failing step ends it with its exit code."""
        pages, questions = unpack(self._folder)
        self._terminal.note(
            f"{pages} saved chats about an invented Library of Things and {questions} questions "
            f"are in {self._folder}: half of the questions are in none of the chats."
        )
        with demo_runner.PeakMemory() as memory:
            for step in demo_steps.before_serving(self._folder):
                self._run(step)
            self._ask_the_server()
            for step in demo_steps.after_serving(self._folder):
                self._run(step)
            peak = memory.mebibytes
        self._conclude(pages, questions, peak)

    def _ask_the_server(self) -> None:
        step = demo_steps.serving(self._folder, _free_port())
        self._announce(step)
        began = time.monotonic()
        with demo_runner.serve(step, log=self._folder / "eval" / "serve.log") as ready:
            self._note_end(step, step.told(ready), began)
            for asking in demo_steps.while_serving(self._folder, ready["url"]):
                self._run(asking)

    def _run(self, step: Step) -> None:
        self._announce(step)
        began = time.monotonic()
        counts, output = demo_runner.run(step, quiet=self._quiet)
        self._counts[step.name] = counts
        self._note_end(step, step.told(counts) if step.stdin is None else output.strip(), began)

    def _announce(self, step: Step) -> None:
        self._lines.append(step.line)
        self._terminal.heading(step.title)
        self._terminal.note(f"$ {step.line}")

    def _note_end(self, step: Step, told: str, began: float) -> None:
        seconds = time.monotonic() - began
        self._seconds[step.name] = round(seconds, 1)
        self._terminal.note(f"=> {told}  ({seconds:.1f} s)")

    # --- the end ---

    def _conclude(self, pages: int, questions: int, peak: int | None) -> None:
        figures = read_figures(self._folder / "eval" / "report.json")
        seconds = round(time.monotonic() - self._began, 1)
        summary = {
            "pages": pages,
            "questions": questions,
            **figures,
            "eval_loss_first": self._counts["train"]["eval_loss_first"],
            "eval_loss_last": self._counts["train"]["eval_loss_last"],
            "seconds": seconds,
            "peak_memory_mib": peak,
            "commands": self._lines,
            "by_step": {name: dict(counts) for name, counts in self._counts.items()},
            "seconds_by_step": self._seconds,
        }
        jsonl.write_json(self._folder / _MARK, _mark("ok") | {"summary": summary})
        self._show(figures, seconds, peak)
        report = self._folder / "eval" / "report.html"
        self._terminal.done(
            outputs=[report, self._folder / "eval" / "report.json", self._folder / "model"],
            counts=summary,
        )

    def _show(self, figures: Mapping[str, Any], seconds: float, peak: int | None) -> None:
        terminal, folder = self._terminal, self._folder
        terminal.heading("What it ran")
        for line in self._lines:
            terminal.note(line)
        terminal.heading("What it made")
        for name, meaning in _FILES.items():
            terminal.note(f"{folder / name!s:<{len(str(folder)) + 32}}{meaning}")
        terminal.heading("How it went")
        for label, asked, before, after in _examples(folder):
            terminal.note(f"{label}: {asked}")
            terminal.note(f"  before training: {_short(before)}")
            terminal.note(f"  after training:  {_short(after)}")
        parts = [("all questions", figures["score"])]
        parts += [(name, figure) for name, figure in figures["categories"].items()]
        for name, figure in parts:
            low, high = figure["interval"]
            terminal.note(
                f"{name:<16}{figure['percent']:.0f} % of the untrained model's score "
                f"[{low:.0f} to {high:.0f}], n = {figure['n']}"
            )
        ended = figures["ended_percent"]
        terminal.note(f"{'end of turn':<16}ends {ended:.0f} % of the trained model's answers")
        memory = "" if peak is None else f", {peak:,} MiB of memory at most"
        terminal.note(f"{'time':<16}{seconds:.0f} s{memory}")
        terminal.heading("Where to look first")
        terminal.note(f"open {folder / 'eval' / 'report.html'} in a browser")
        terminal.note(f"talk to the model: openchat chat --model-path {folder / 'model'}")


_FILES = {
    "pages/": "the saved chats, as they came",
    "data/conversations.jsonl": "what cleaning kept",
    "data/dropped.jsonl": "what it dropped, and why",
    "data/openchat.train.json": "what the model was trained on, as tokens",
    "prepared/": "the model before training",
    "model/": "the model after training",
    "model/train.log.jsonl": "every step and every measurement of the training",
    "eval/questions.jsonl": "the questions, with reference answers",
    "eval/answers/trained.jsonl": "the trained model's answers",
    "eval/baseline/untrained.jsonl": "the untrained model's",
    "eval/report.html": "the report: open it in a browser",
}


def unpack(folder: Path) -> tuple[int, int]:
    """Put the pages and the questions into `folder`; gives how many there are of each.

    An earlier demo's files there are removed. Raises UsageError for a folder that holds anything
    else, of which nothing is touched.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        hint = "choose a new or empty one: openchat demo DIR"
        raise UsageError(f"{folder}: holds files that no demo made", hint)
    jsonl.make_folder(folder)
    jsonl.write_json(folder / _MARK, _mark("unfinished"))
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    jsonl.make_folder(folder / "eval")
    questions = records.write(
        folder / "eval" / "questions.jsonl", records.read(_ASSETS / "questions.jsonl", Question)
    )
    # Under their own name only when all are there: an interrupted demo leaves no half of them.
    with tempfile.TemporaryDirectory(prefix=".pages.", dir=folder) as work:
        pages = Path(work) / "pages"
        pages.mkdir()
        found = sorted((_ASSETS / "pages").iterdir())
        for page in found:
            shutil.copyfile(page, pages / page.name)
        pages.replace(folder / "pages")
    return len(found), questions


def _mark(status: str) -> dict[str, Any]:
    return {"kind": "demo", "version": 1, "openchat": __version__, "status": status}


def read_figures(report: Path) -> dict[str, Any]:
    """What the report says: the score with its interval, in all and by category, and the EOTs."""
    content = jsonl.read_json(report)
    comparison = content["comparisons"][0]
    trained = next(model for model in content["models"] if model["role"] == "model")
    return {
        "score": _figure(comparison["overall"]),
        "categories": {
            name: _figure(figures) for name, figures in comparison["categories"].items()
        },
        "ended_percent": trained["ended_percent"],
    }


def _figure(figures: Mapping[str, Any]) -> dict[str, Any]:
    score = figures["score"]
    return {
        "percent": round(score["value"], 1),
        "interval": [round(score["interval"][side], 1) for side in ("low", "high")],
        "n": score["n"],
        "standing": figures.get("standing"),
    }


def _examples(folder: Path) -> list[tuple[str, str, str, str]]:
    """(category, question, answer before, answer after): the first question of each category."""
    before, after = (
        {row.question_id: row.turns[0] for row in records.read(folder / "eval" / path, Answer)}
        for path in (f"baseline/{UNTRAINED}.jsonl", f"answers/{TRAINED}.jsonl")
    )
    first: dict[str, Question] = {}
    for question in records.read(folder / "eval" / "questions.jsonl", Question):
        first.setdefault(question.category, question)
    return [
        (name, row.turns[0], before[row.question_id], after[row.question_id])
        for name, row in first.items()
    ]


def _short(text: str) -> str:
    """One line of an answer; control characters of an untrained model stay off the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 90 else line[:89] + "…"


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1"


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
