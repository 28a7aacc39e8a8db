"""The road of the demo as data: every command it runs, and how each one's numbers are told."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Counts = Mapping[str, Any]  # the `counts` of a command's --json summary

TRAINED, UNTRAINED = "trained", "untrained"
_CHAT_QUESTION = "How long may I keep the telescope?"
# The likeliest token each time, so that a rerun gives the same answers. No reference is longer
# than 79 tokens.
_GREEDY = ("--temperature", "0", "--max-tokens", "120")


@dataclass(frozen=True)
class Step:
    """One command of the road; `told` puts its counts into a line for who watches."""

    title: str
    command: tuple[str, ...]  # without `openchat`
    told: Callable[[Counts], str]
    stdin: str | None = None

    @property
    def name(self) -> str:
        """What the command is called: "data clean"."""
        return " ".join(self.command[: 2 if self.command[0] in ("data", "model", "eval") else 1])

    @property
    def line(self) -> str:
        """The command as a shell takes it."""
        said = "" if self.stdin is None else f"echo {shlex.quote(self.stdin.strip())} | "
        return said + shlex.join(["openchat", *self.command])


def before_serving(folder: Path) -> list[Step]:
    """From the pages to a trained model."""
    pages, data = f"{folder / 'pages'}", f"{folder / 'data'}"
    base, prepared, model = (f"{folder / name}" for name in ("base", "prepared", "model"))
    return [
        Step("Clean the pages", ("data", "clean", pages, data), _cleaned),
        Step("Keep what GPT-4 said", ("data", "filter", data, data, "--model", "GPT-4"), _filtered),
        Step(
            "Make a tiny LLaMA, with a tokeniser of its own",
            ("model", "tiny", base, "--corpus", f"{folder / 'data' / 'filtered.jsonl'}"),
            lambda c: f"{c['parameters']:,} random weights, {c['vocab_size']:,} pieces",
        ),
        Step(
            "Teach it where a turn ends",
            ("model", "prepare", base, prepared, "--model-type", "openchat"),
            lambda c: f"end-of-turn token {c['eot_id']}, context {c['context']:,} tokens",
        ),
        Step(
            "Turn conversations into tokens",
            ("data", "convert", data, data, "--model-path", prepared, "--eval-ratio", "0.15"),
            lambda c: (
                f"{c['train']} conversations to train on, {c['eval']} kept out to measure on, "
                f"{c['tokens']:,} tokens"
            ),
        ),
        Step("Train", ("train", *_training(prepared, data, model)), _trained),
    ]


def _training(prepared: str, data: str, model: str) -> tuple[str, ...]:
    # A model this small takes a hundred times the recipe's learning rate, and a batch of 4 gives
    # 57 conversations enough steps to be learnt in a minute.
    paths = ("--model-path", prepared, "--data-path", data, "--save-path", model)
    return (
        *paths,
        *("--epochs", "16", "--batch-size", "4", "--learning-rate", "0.002"),
        *("--dtype", "fp32", "--no-gradient-checkpointing"),
    )


def serving(folder: Path, port: int) -> Step:
    """The server of the trained model, which runs beside the steps that ask it."""
    model = f"{folder / 'model'}"
    command = ("serve", "--model-path", model, "--port", str(port))
    return Step("Serve it", command, lambda c: f"listening on {c['url']}")


def while_serving(folder: Path, url: str) -> list[Step]:
    """What the served model is asked."""
    run = f"{folder / 'eval'}"
    asked = ("--questions", f"{folder / 'eval' / 'questions.jsonl'}")
    served = ("--url", url, "--model", "openchat", "--name", TRAINED)
    return [
        Step("Ask it the questions", ("eval", "answer", run, *asked, *served, *_GREEDY), _answered),
        Step(
            "Chat with it",
            ("chat", "--url", url, "--temperature", "0"),
            lambda c: "",
            stdin=_CHAT_QUESTION + "\n",
        ),
    ]


def after_serving(folder: Path) -> list[Step]:
    """From the answers to the report."""
    run = f"{folder / 'eval'}"
    untrained = ("--model-path", f"{folder / 'prepared'}", "--name", UNTRAINED)
    return [
        Step(
            "Ask the model as it was before training",
            ("eval", "baseline", run, *untrained, *_GREEDY),
            _answered,
        ),
        Step(
            "Compare both with the reference answers",
            ("eval", "judge", run, "--baseline", UNTRAINED, "--judge", "reference"),
            lambda c: f"{c['judgments']} comparisons",
        ),
        Step("Write the report", ("eval", "report", run), lambda c: "in a page and in JSON"),
    ]


def _cleaned(counts: Counts) -> str:
    return (
        f"{counts['read']} pages: {counts['kept']} conversations kept, "
        f"{counts['dropped']} pages dropped, each with its reason"
    )


def _filtered(counts: Counts) -> str:
    return f"{counts['kept']} of {counts['read']} conversations"


def _trained(counts: Counts) -> str:
    return (
        f"{counts['steps']} steps, {counts['tokens']:,} tokens; on conversations it never saw, "
        f"the loss fell from {counts['eval_loss_first']:.2f} to {counts['eval_loss_last']:.2f}"
    )


def _answered(counts: Counts) -> str:
    return f"{counts['answers']} answers"
