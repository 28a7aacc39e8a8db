"""`openchat eval …`: answer, baseline, judge, report, import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from openchat_cli.cli.downloads import ask_first
from openchat_cli.cli.keys import api_key
from openchat_cli.cli.options import (
    ConcurrencyOption,
    DryRunFlag,
    ForceFlag,
    JsonFlag,
    KeyFileOption,
    ModelFileOption,
    ModelTypeOption,
    QuietFlag,
    TimeoutOption,
)
from openchat_cli.cli.terminal import Terminal
from openchat_cli.core.endpoint import OPENAI_URL, Endpoint
from openchat_cli.core.errors import OpenChatError, PartialError
from openchat_cli.evaluation.settings import (
    OWN_BENCHMARK,
    REFERENCE_JUDGE,
    AnswerSettings,
    BaselineSettings,
    ImportSettings,
    JudgeSettings,
    LocalModel,
    ReportSettings,
    Sampling,
)

app = typer.Typer(no_args_is_help=True)

# --- options of several of these commands ---

OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The run's folder.")]
QuestionsOption = Annotated[
    Path | None,
    typer.Option(
        help="The questions: our rows, Vicuna's or MT-bench's question.jsonl, AlpacaEval's JSON."
    ),
]
BenchmarkOption = Annotated[str, typer.Option(help="A built-in set of questions.")]
NameOption = Annotated[
    str | None, typer.Option(help="What to call the answers; the model's name when absent.")
]
TemperatureOption = Annotated[float, typer.Option(help="0 always takes the likeliest token.")]
TopPOption = Annotated[float, typer.Option(help="Draw from the likeliest tokens of this share.")]
MaxTokensOption = Annotated[int, typer.Option(help="New tokens of one reply at most.")]
SeedOption = Annotated[int | None, typer.Option(help="Draw the same answers again.")]
SamplesOption = Annotated[int, typer.Option(help="Answers to each question.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, or any torch device.")]
SlotsOption = Annotated[int, typer.Option(help="Questions that a local model answers together.")]


def _endpoint(url: str | None, key_file: Path | None, timeout: float, concurrency: int) -> Endpoint:
    return Endpoint(url or OPENAI_URL, api_key(key_file), timeout, concurrency)


@app.command("answer")
def answer(
    out: OutArgument,
    questions: QuestionsOption = AnswerSettings.questions,
    benchmark: BenchmarkOption = OWN_BENCHMARK,
    model_path: Annotated[
        list[Path] | None,
        typer.Option(help="A model folder, or a folder of them; may be given again."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint; OpenAI's own when absent."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The endpoint's model.")] = None,
    name: NameOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    temperature: TemperatureOption = Sampling.temperature,
    top_p: TopPOption = Sampling.top_p,
    max_tokens: MaxTokensOption = Sampling.max_tokens,
    seed: SeedOption = Sampling.seed,
    samples: SamplesOption = Sampling.samples,
    device: DeviceOption = LocalModel.device,
    max_slots: SlotsOption = LocalModel.max_slots,
    api_key_file: KeyFileOption = None,
    timeout: TimeoutOption = Endpoint.timeout,
    concurrency: ConcurrencyOption = Endpoint.concurrency,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Answer a benchmark's questions with local models or with an endpoint's model.

    \b
    openchat eval answer run/ --model-path model/
    openchat eval answer run/ --url http://127.0.0.1:18888/v1 --model openchat
    """
    from openchat_cli.evaluation.answer import answer as answer_all

    with Terminal("eval answer", json_output=json_, quiet=quiet) as terminal:
        for path in model_path or ():
            ask_first(path, model_type, model_file)
        settings = AnswerSettings(
            out=out,
            questions=questions,
            benchmark=benchmark,
            model_paths=tuple(model_path or ()),
            model=model,
            name=name,
            endpoint=_endpoint(url, api_key_file, timeout, concurrency),
            sampling=Sampling(temperature, top_p, max_tokens, seed, samples),
            local=LocalModel(model_type, model_file, device, max_slots),
            force=force,
        )
        summary = answer_all(settings, progress=terminal.progress)
        terminal.done(
            outputs=summary.outputs,
            counts={
                "models": len(summary.models),
                "answers": summary.answers,
                "failed": summary.failed,
                "reused": summary.reused,
            },
            status="partial" if summary.failed else "ok",
            next_command=["openchat", "eval", "baseline", out, "--model", "NAME"],
        )
    _partly("answers", summary.failed, summary.answers)


@app.command("baseline")
def baseline(
    out: OutArgument,
    questions: QuestionsOption = BaselineSettings.questions,
    benchmark: BenchmarkOption = OWN_BENCHMARK,
    model: Annotated[str | None, typer.Option(help="A model of the endpoint.")] = None,
    model_path: Annotated[Path | None, typer.Option(help="A model folder.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Answers that exist: ours, FastChat's, AlpacaEval's model_outputs.json."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint; OpenAI's own when absent."),
    ] = None,
    name: NameOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    temperature: TemperatureOption = Sampling.temperature,
    top_p: TopPOption = Sampling.top_p,
    max_tokens: MaxTokensOption = Sampling.max_tokens,
    seed: SeedOption = Sampling.seed,
    device: DeviceOption = LocalModel.device,
    max_slots: SlotsOption = LocalModel.max_slots,
    api_key_file: KeyFileOption = None,
    timeout: TimeoutOption = Endpoint.timeout,
    concurrency: ConcurrencyOption = Endpoint.concurrency,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Make or take over the answers that the models' are compared with.

    \b
    openchat eval baseline run/ --model gpt-4o-mini
    openchat eval baseline run/ --from answer_gpt35.jsonl --name gpt-3.5-turbo
    """
    from openchat_cli.evaluation.baseline import baseline as make_baseline

    with Terminal("eval baseline", json_output=json_, quiet=quiet) as terminal:
        if model_path is not None:
            ask_first(model_path, model_type, model_file)
        settings = BaselineSettings(
            out=out,
            questions=questions,
            benchmark=benchmark,
            model=model,
            model_path=model_path,
            answers=from_,
            name=name,
            endpoint=_endpoint(url, api_key_file, timeout, concurrency),
            sampling=Sampling(temperature, top_p, max_tokens, seed),
            local=LocalModel(model_type, model_file, device, max_slots),
            force=force,
        )
        summary = make_baseline(settings, progress=terminal.progress)
        made = summary.models[0]
        terminal.done(
            outputs=summary.outputs,
            counts={
                "answers": summary.answers,
                "failed": summary.failed,
                "reused": summary.reused,
            },
            status="partial" if summary.failed else "ok",
            next_command=["openchat", "eval", "judge", out, "--baseline", made, "--judge", "MODEL"],
        )
    _partly("answers", summary.failed, summary.answers)


@app.command("judge")
def judge(
    out: OutArgument,
    baseline: Annotated[str, typer.Option(help="The baseline's name.")],
    judge: Annotated[
        str | None,
        typer.Option(help="The judge: an endpoint's model, or 'reference' (no LLM)."),
    ] = JudgeSettings.judge,
    judge_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible endpoint; OpenAI's own when absent."),
    ] = None,
    questions: QuestionsOption = JudgeSettings.questions,
    format_: Annotated[
        Literal["json", "text"],
        typer.Option("--format", help="Structured output where the judge takes it, or plain text."),
    ] = JudgeSettings.format,
    samples: Annotated[
        int, typer.Option(help="Verdicts for each question and order.")
    ] = JudgeSettings.samples,
    temperature: TemperatureOption = JudgeSettings.temperature,
    max_tokens: MaxTokensOption = JudgeSettings.max_tokens,
    budget: Annotated[
        float | None, typer.Option(help="US dollars that this judge may cost in this run.")
    ] = JudgeSettings.budget,
    allow_self_judge: Annotated[
        bool, typer.Option("--allow-self-judge", help="Let a model judge its own answers.")
    ] = JudgeSettings.allow_self_judge,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 when a verdict could not be read.")
    ] = False,
    api_key_file: KeyFileOption = None,
    timeout: TimeoutOption = Endpoint.timeout,
    concurrency: ConcurrencyOption = Endpoint.concurrency,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Judge every answer of a run against the baseline's, in both orders.

    \b
    openchat eval judge run/ --baseline gpt-4o-mini --judge gpt-4.1 --dry-run
    openchat eval judge run/ --baseline before --judge reference && openchat eval report run/
    """
    from openchat_cli.evaluation.judge import judge as judge_all
    from openchat_cli.evaluation.judge import plan

    with Terminal("eval judge", json_output=json_, quiet=quiet) as terminal:
        settings = JudgeSettings(
            out=out,
            baseline=baseline,
            judge=judge,
            questions=questions,
            endpoint=_endpoint(judge_url, api_key_file, timeout, concurrency),
            format=format_,
            samples=samples,
            temperature=temperature,
            max_tokens=max_tokens,
            budget=budget,
            allow_self_judge=allow_self_judge,
            force=force,
        )
        if dry_run:
            _show_plan(terminal, settings, vars(plan(settings, progress=terminal.progress)), json_)
            return
        summary = judge_all(settings, progress=terminal.progress)
        if summary.unreadable:
            terminal.note(f"{summary.unreadable} verdicts could not be read: excluded and counted")
        if summary.cost is not None:
            terminal.note(f"the judge's calls of this run have cost about ${summary.cost:.2f}")
        terminal.done(
            outputs=summary.outputs,
            counts={
                "judgments": summary.judgments,
                "ok": summary.ok,
                "unreadable": summary.unreadable,
                "failed": summary.failed,
                "calls": summary.calls,
                "recorded": summary.recorded,
                **summary.usage,
                "usd": summary.cost,
            },
            status=_judged(summary.failed, summary.unreadable if strict else 0),
            next_command=["openchat", "eval", "report", out],
        )
    _partly("judgments", summary.failed, summary.judgments)
    if strict and summary.unreadable:
        raise OpenChatError(f"{summary.unreadable} verdicts could not be read (--strict)")


def _judged(failed: int, refused: int) -> str:
    if failed:
        return "partial"
    return "failed" if refused else "ok"


def _show_plan(
    terminal: Terminal, settings: JudgeSettings, planned: Mapping[str, Any], json_: bool
) -> None:
    from openchat_cli.evaluation.cost import PRICES_OF

    if not json_:
        rows = [(name.replace("_", " "), _shown(name, value)) for name, value in planned.items()]
        rows += [
            (name, getattr(settings, name))
            for name in ("format", "samples", "temperature", "max_tokens", "budget")
        ]
        if settings.judge != REFERENCE_JUDGE:
            rows.append(("endpoint", settings.endpoint.url))
        terminal.data_table(f"eval judge (list prices of {PRICES_OF})", ("what", "value"), rows)
    terminal.done(counts=planned, status="dry-run")


def _shown(name: str, value: Any) -> str:
    if name in ("cost", "most"):
        return "no price known" if value is None else f"${value:.2f}"
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command("report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="OUT...", help="Folders of runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where report.html and report.json go; the first run when absent."),
    ] = ReportSettings.out,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples behind each interval.")
    ] = ReportSettings.bootstrap,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = ReportSettings.seed,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Show what the judge said: a table, report.json and a page that stands by itself.

    \b
    openchat eval report run/
    openchat eval report run-1/ run-2/ --out both/ --json | jq .counts
    """
    from openchat_cli.evaluation.report import CATEGORY_COLUMNS, COLUMNS, build_report

    with Terminal("eval report", json_output=json_, quiet=quiet) as terminal:
        settings = ReportSettings(tuple(runs), out, bootstrap, seed, force)
        summary = build_report(settings, progress=terminal.progress)
        if not json_:
            terminal.data_table("", COLUMNS, summary.rows)
            if summary.category_rows:
                terminal.data_table("", CATEGORY_COLUMNS, summary.category_rows)
        for note in summary.notes:
            terminal.note(note)
        terminal.done(outputs=summary.outputs, counts=summary.counts)


@app.command("import")
def import_(
    reviews: Annotated[
        list[Path], typer.Argument(metavar="REVIEW...", help="Files of reviews or results.")
    ],
    out: OutArgument,
    baseline: Annotated[
        str, typer.Option(help="Which side is the baseline: its model or its answers' file.")
    ],
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="A file of the answers reviewed; may be given again."),
    ] = None,
    questions: QuestionsOption = ImportSettings.questions,
    judge: Annotated[
        str, typer.Option(help="Who judged, where the reviews do not say.")
    ] = ImportSettings.judge,
    reread: Annotated[
        bool,
        typer.Option("--reread", help="Read the texts of reviews that have lost their scores."),
    ] = ImportSettings.reread,
    force: ForceFlag = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Take over others' reviews: FastChat's, QLoRA's, and results of the original OpenChat.

    \b
    openchat eval import review.jsonl run/ --baseline gpt35 --answers gpt35.jsonl --answers my.jsonl
    openchat eval import results/*.jsonl run/ --baseline gpt-3.5-turbo && openchat eval report run/
    """
    from openchat_cli.evaluation.importing import import_reviews

    with Terminal("eval import", json_output=json_, quiet=quiet) as terminal:
        settings = ImportSettings(
            reviews=tuple(reviews),
            out=out,
            baseline=baseline,
            answers=tuple(answers or ()),
            questions=questions,
            judge=judge,
            reread=reread,
            force=force,
        )
        summary = import_reviews(settings, progress=terminal.progress)
        terminal.done(
            outputs=summary.outputs,
            counts={
                "models": len(summary.models),
                "judgments": summary.judgments,
                "unreadable": summary.unreadable,
                "lost": summary.lost,
                "mended": summary.mended,
                "skipped": summary.skipped,
            },
            next_command=["openchat", "eval", "report", out],
        )


def _partly(what: str, failed: int, total: int) -> None:
    if failed:
        hint = "run the same command again: only those are asked anew"
        raise PartialError(f"{failed} of {total} {what} failed", hint)
