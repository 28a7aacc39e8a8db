"""Models by their name on the Hugging Face hub: found in its cache, or downloaded into it.

`tokenizer_only` leaves the weights out, for work that needs the tokeniser alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core.errors import InputError, MissingExtraError
from openchat_cli.core.progress import SILENT, Progress

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER = ("tokenizer*", "added_tokens.json", "special_tokens_map.json", "openchat.json")
_SIDE = ("*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "NOTICE*", "USE_POLICY*")


@dataclass(frozen=True)
class Download:
    """What fetching a model would bring."""

    name: str
    files: tuple[str, ...]
    size: int  # bytes


def find(path: Path, *, tokenizer_only: bool = False) -> Path | None:
    """The folder itself, or the hub cache's folder of that name; None where neither is there."""
    if path.exists():
        return path
    if not is_name(path):
        return None
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        found = Path(snapshot_download(str(path), local_files_only=True))
    except (OSError, ValueError):
        return None
    needed = ("tokenizer.model", "tokenizer.json") if tokenizer_only else ("config.json",)
    return found if any((found / name).is_file() for name in needed) else None


def is_name(path: Path) -> bool:
    """Whether this could be a model on the hub ("owner/name")."""
    return _NAME.fullmatch(path.as_posix()) is not None


def plan(path: Path, *, tokenizer_only: bool = False) -> Download:
    """What to fetch of a model, safetensors rather than pickles.

    Raises InputError where the hub has no such model, asks for a licence, or can't be reached.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError("a model from the hub", "model") from None
    name = path.as_posix()
    try:
        info = HfApi().model_info(name, files_metadata=True)
    except Exception as error:  # the client's many error classes, over any transport
        raise _unreachable(name, error) from None
    names = [file.rfilename for file in info.siblings or ()]
    wanted = [n for n in names if _matches(n, _TOKENIZER)] if tokenizer_only else _choose(names)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return Download(name, tuple(wanted), sum(sizes[file] for file in wanted))


def fetch(download: Download, *, progress: Progress = SILENT) -> Path:
    """Download the files into the hub's cache; gives the folder."""
    from huggingface_hub import hf_hub_download

    get: Any = hf_hub_download
    folder = Path()
    with progress.task(f"fetching {download.name}", len(download.files), "files") as task:
        for file in download.files:
            try:
                folder = Path(get(download.name, file)).parent
            except Exception as error:
                raise _unreachable(download.name, error) from None
            task.advance()
    return folder


def _choose(files: Sequence[str]) -> list[str]:
    top = [file for file in files if "/" not in file]
    suffix = ".safetensors" if any(file.endswith(".safetensors") for file in top) else ".bin"
    return [file for file in top if file.endswith(suffix) or _matches(file, _SIDE)]


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return "/" not in file and any(Path(file).match(pattern) for pattern in patterns)


def _unreachable(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return InputError(
            f"{name}: its owner asks for consent first", "accept it, then: hf auth login"
        )
    if kind == "RepositoryNotFoundError":
        return InputError(f"{name}: no such folder, and no such model on the hub")
    hint = "give a folder on this machine; where a command takes no other: --model-path FOLDER"
    return InputError(f"{name}: no such folder, and the hub can't be reached ({reason})", hint)
