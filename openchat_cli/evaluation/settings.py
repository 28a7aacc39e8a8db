"""Settings of the evaluation commands; light, because the command line reads defaults off them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openchat_cli.core.endpoint import Endpoint
from openchat_cli.core.errors import UsageError


@dataclass(frozen=True)
class ReportSettings:
    """`openchat eval report`: the runs to show, and where `report.html` and `report.json` go."""

    runs: tuple[Path, ...]
    out: Path | None = None  # None: the first run's folder
    bootstrap: int = 10_000  # resamples behind each interval
    seed: int = 42
    force: bool = False


REFERENCE_JUDGE = "reference"
OWN_BENCHMARK = "openchat-80"


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; the defaults are the original's and those of `openchat serve`.

    Without a seed an endpoint draws as it likes; a local model then draws from seed 0, so that the
    same command gives the same answers.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int = 768  # new tokens for one turn
    seed: int | None = None
    samples: int = 1  # answers to each question

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise UsageError("samples and max-tokens must be at least 1")


@dataclass(frozen=True)
class LocalModel:
    """How the engine loads a model folder."""

    model_type: str | None = None
    model_file: Path | None = None
    device: str = "auto"
    max_slots: int = 32  # questions answered together


@dataclass(frozen=True)
class AnswerSettings:
    """`openchat eval answer`: local models, or one model of an endpoint.

    `model_paths` are model folders, or folders of them; `model` names the endpoint's.
    """

    out: Path
    questions: Path | None = None  # None: the benchmark
    benchmark: str = OWN_BENCHMARK
    model_paths: tuple[Path, ...] = ()
    model: str | None = None
    name: str | None = None  # of the answers' file; from the model when absent
    endpoint: Endpoint = field(default_factory=Endpoint)
    sampling: Sampling = field(default_factory=Sampling)
    local: LocalModel = field(default_factory=LocalModel)
    force: bool = False


@dataclass(frozen=True)
class BaselineSettings:
    """`openchat eval baseline`: one model as for `eval answer`, or answers that exist."""

    out: Path
    questions: Path | None = None  # None: the run's own, else the benchmark
    benchmark: str = OWN_BENCHMARK
    model: str | None = None
    model_path: Path | None = None
    answers: Path | None = None  # ours, FastChat's, the original's or AlpacaEval's
    name: str | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)
    sampling: Sampling = field(default_factory=Sampling)
    local: LocalModel = field(default_factory=LocalModel)
    force: bool = False


@dataclass(frozen=True)
class JudgeSettings:
    """`openchat eval judge`: every answer file of a run against one baseline."""

    out: Path
    baseline: str
    judge: str | None = None  # a model's name, or "reference"
    questions: Path | None = None  # None: the run's own
    endpoint: Endpoint = field(default_factory=Endpoint)
    format: Literal["json", "text"] = "json"
    samples: int = 1  # verdicts for each question and order
    temperature: float = 0.2
    max_tokens: int = 2048  # of one review
    budget: float | None = None  # US dollars this judge may cost in this run
    allow_self_judge: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_tokens < 1:
            raise UsageError("samples and max-tokens must be at least 1")
        if self.budget is not None and self.budget <= 0:
            raise UsageError("the budget must be above 0")


@dataclass(frozen=True)
class ImportSettings:
    """`openchat eval import`: others' reviews as our judgments."""

    reviews: tuple[Path, ...]
    out: Path
    baseline: str
    answers: tuple[Path, ...] = ()
    questions: Path | None = None
    judge: str = "imported"  # where the reviews do not say who judged
    reread: bool = False  # read the texts of reviews whose scores their own parser lost
    force: bool = False
