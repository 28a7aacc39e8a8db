"""Settings of the data stage's steps; the command line reads its defaults here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openchat_cli.core.endpoint import Endpoint

Converter = Literal["exact", "html2text"]
Compat = Literal["own", "reference"]
Executor = Literal["local", "ray"]
Reduction = Literal["auto", "umap", "pca"]
ReportForm = Literal["json", "html"]


@dataclass(frozen=True)
class CleanSettings:
    """`data clean`: raw chats to conversations.

    `output` is a folder, or `-` for the conversations alone on stdout; `workers` None is all cores.
    `near_dup` is the similarity from which a conversation repeats an earlier one, None for only
    equal ones. `report` "html" writes a page beside the JSON.
    `ray_address` is a running cluster, None for a local one of the run's own.
    """

    input: Path
    output: Path
    workers: int | None = None
    converter: Converter = "exact"
    blocked_words: tuple[str, ...] = ("openai",)
    force: bool = False
    keep_blocked: bool = False
    near_dup: float | None = None
    report: ReportForm = "json"
    executor: Executor = "local"
    ray_address: str | None = None


@dataclass(frozen=True)
class FilterSettings:
    """`data filter`: the conversations that meet every criterion given.

    `model` empty: GPT-4 as in the original release, or all where `ids` names the conversations.
    Bounds are inclusive, None is none; `sample` is a count ("1000") or a share ("10%", "0.1").
    """

    input: Path
    output: Path
    ids: Path | None = None
    model: tuple[str, ...] = ()
    min_turns: int | None = None
    max_turns: int | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    lang: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    sample: str | None = None
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class ConvertSettings:
    """`data convert`: conversations to the token dataset of one model type."""

    input: Path
    output: Path
    model_type: str | None = None
    model_path: Path | None = None
    model_file: Path | None = None
    eval_ratio: float = 0.01
    seed: int = 42
    context: int | None = None  # tokens; None: the model's own
    compat: Compat = "own"
    force: bool = False
    split: bool = False  # cut at turn boundaries what is longer than the context


@dataclass(frozen=True)
class EmbedSettings:
    """`data embed`: a vector for each conversation.

    By TF-IDF and SVD; by the sentence-transformer in `model_path`; or by `model` at `endpoint`.
    """

    input: Path
    output: Path
    model_path: Path | None = None
    endpoint: Endpoint | None = None
    model: str | None = None
    dimensions: int | None = None  # None: 128 for TF-IDF, else the model's own
    max_chars: int = 8_000  # of a conversation
    max_tokens: int = 8_191  # of a text sent to an endpoint
    batch_size: int = 64  # texts in one call or one forward pass
    device: str | None = None
    seed: int = 42
    force: bool = False


@dataclass(frozen=True)
class MapSettings:
    """`data map`: points, clusters and a page. `input`: the folder of `data embed`, or rows.

    `clusters` None chooses between 2 and `max_clusters` by silhouette.
    """

    input: Path
    output: Path
    name: str = "conversations"
    rows: Path | None = None
    reduce: Reduction = "auto"
    neighbors: int = 15
    min_dist: float = 0.1
    clusters: int | None = None
    max_clusters: int = 20
    page_chars: int = 40_000_000  # of all texts together, in the page and in the JSON
    seed: int = 42
    force: bool = False
