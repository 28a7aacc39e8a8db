"""`T.dataset.json`: how a token dataset was made, for `train` to check and the card to tell."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from openchat_cli import __version__
from openchat_cli.core import templates
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer
from openchat_cli.data.settings import ConvertSettings
from openchat_cli.data.survey import Survey

if TYPE_CHECKING:
    from openchat_cli.data.convert import ConvertSummary

_BLOCK = 1 << 20


def of_dataset(
    settings: ConvertSettings,
    kind: ModelType,
    tokenizer: ChatTokenizer,
    context: int,
    summary: ConvertSummary,
    lengths: Sequence[int],
    survey: Survey,
    source: Path,
) -> dict[str, Any]:
    """Everything but the digests of the files; the same for the same input and settings."""
    cut = {"conversations": summary.cut, "pieces": summary.pieces}
    return {
        "kind": "dataset",
        "version": 1,
        "made_by": f"openchat {__version__}",
        "command": command(settings, kind),
        "model_type": kind.name,
        "context": context,
        "template_hash": templates.template_hash(kind),
        "tokenizer_hash": tokenizer.hash,
        "compat": settings.compat,
        "bos_id": tokenizer.bos_id,
        "eot_id": tokenizer.eot_id,
        "vocab_size": tokenizer.vocab_size,
        "seed": settings.seed,
        "eval_ratio": settings.eval_ratio,
        "counts": {
            "read": summary.read,
            "train": summary.train,
            "eval": summary.eval,
            "dropped": summary.dropped,
        },
        "tokens": {"total": summary.tokens, "supervised": summary.supervised},
        "lengths": _lengths(lengths),
        "truncated": summary.truncated,
        "split": cut if settings.split else None,
        "weighted": summary.weighted,
        "rows": source.name,
        **survey.to_json(),
    }


def text(about: dict[str, Any]) -> bytes:
    """The manifest as its file holds it."""
    return json.dumps(about, ensure_ascii=True, indent=2, allow_nan=False).encode() + b"\n"


def digests(paths: Sequence[Path], streams: Sequence[BinaryIO]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file, read back from its stream."""
    return {
        path.name: dict(zip(("bytes", "sha256"), digest(stream), strict=True))
        for path, stream in zip(paths, streams, strict=True)
    }


def digest(stream: BinaryIO) -> tuple[int, str]:
    """Bytes and SHA-256 of a stream from its beginning."""
    found, size = hashlib.sha256(), 0
    stream.seek(0)
    while block := stream.read(_BLOCK):
        found.update(block)
        size += len(block)
    return size, found.hexdigest()


def command(settings: ConvertSettings, kind: ModelType) -> str:
    """The command line that makes this dataset.

    Of an absolute path only the last part is told: where it lies on somebody's machine is nobody
    else's business, and no part of what is made. The hub's own folders are left out.
    """
    words = ["openchat", "data", "convert", _shown(settings.input), _shown(settings.output)]
    words += ["--model-type", kind.name]
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in ("input", "output", "model_type", "force") or value == item.default:
            continue
        if item.name == "model_path" and value.parent.name == "snapshots":
            continue
        flag = "--" + item.name.replace("_", "-")
        shown = _shown(value) if isinstance(value, Path) else str(value)
        words += [flag] if value is True else [flag, shown]
    return shlex.join(words)


def _shown(path: Path) -> str:
    return path.name if path.is_absolute() else path.as_posix()


def _lengths(lengths: Sequence[int]) -> dict[str, float]:
    ordered = sorted(lengths)

    def quantile(share: float) -> int:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {
        "min": ordered[0],
        "mean": round(statistics.fmean(ordered), 1),
        "median": quantile(0.5),
        "p90": quantile(0.9),
        "p99": quantile(0.99),
        "max": ordered[-1],
    }
