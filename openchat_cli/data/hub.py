"""The tokeniser of a model type from the Hugging Face hub, for when no folder is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core.errors import InputError, MissingExtraError
from openchat_cli.core.progress import Progress

_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "openchat.json",
)
_OFFLINE = "give the folder of the model: --model-path PATH"


@dataclass(frozen=True)
class Download:
    """Files of a repository that are not in the local cache, and their size in bytes."""

    repository: str
    files: tuple[str, ...]
    size: int


def plan(repository: str) -> Download:
    """What fetching the tokeniser would download; needs the network.

    Raises MissingExtraError without huggingface_hub, InputError where the hub can't be asked.
    """
    hub = _hub()
    try:
        info = hub.HfApi().model_info(repository, files_metadata=True)
    except Exception as error:  # the hub's client raises many kinds, none of them ours to mend
        raise _unreachable(repository, error) from None
    found = [entry for entry in info.siblings or () if entry.rfilename in _FILES]
    return Download(
        repository,
        tuple(entry.rfilename for entry in found),
        sum(entry.size or 0 for entry in found),
    )


def cached(repository: str) -> Path | None:
    """The tokeniser's folder in the local cache, None where it is not there."""
    hub = _hub()
    try:
        folder = hub.snapshot_download(
            repository, allow_patterns=list(_FILES), local_files_only=True
        )
    except Exception:  # any reason not to find it locally leads to asking the hub
        return None
    path = Path(folder)
    has_tokenizer = (path / "tokenizer.model").is_file() or (path / "tokenizer.json").is_file()
    return path if has_tokenizer else None


def fetch(download: Download, *, progress: Progress) -> Path:
    """Download the files; gives their folder."""
    size = f"{download.size / 1e6:.1f} MB"
    progress.note(f"downloading the tokeniser of {download.repository} ({size})")
    hub = _hub()
    try:
        return Path(hub.snapshot_download(download.repository, allow_patterns=list(_FILES)))
    except Exception as error:
        raise _unreachable(download.repository, error) from None


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError("downloading a tokeniser", "model") from None
    return huggingface_hub


def _unreachable(repository: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
    return InputError(f"{repository}: can't be fetched from the hub ({reason})", _OFFLINE)
