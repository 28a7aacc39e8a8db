"""Models by their name on the Hugging Face hub: found in its cache, or downloaded into it.

A name is "owner/name" or "owner/name@revision" (a branch, a tag or a commit). A folder of that name
on this machine comes first, then what the cache holds, then the hub. `tokenizer_only` leaves the
weights out, for work that needs the tokeniser alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, registry
from openchat_cli.core.errors import InputError, MissingExtraError, OpenChatError, UsageError
from openchat_cli.core.manifest import FILE_NAME as MANIFEST
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.model import remote_code

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_TOKENIZER = ("tokenizer*", "added_tokens.json", "special_tokens_map.json", "openchat.json")
_SIDE = ("*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "NOTICE*", "USE_POLICY*")
_LOOK_EVERY = 0.2  # seconds between two looks at how much has come


@dataclass(frozen=True)
class Download:
    """What fetching a model would bring."""

    name: str  # "owner/name"
    revision: str | None
    files: tuple[str, ...]
    size: int  # bytes

    @property
    def title(self) -> str:
        """As the user wrote it."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def local(
    path: Path, *, typed: bool = True, code: bool = False, progress: Progress = SILENT
) -> Path:
    """A model's folder on this machine: the path itself where there is one, else the hub's model of
    that name, downloaded where the cache lacks it, which is announced.

    What is no name of a model is given back, for whoever needs the folder to say so. `typed` false:
    only openchat.json can tell the model's type, so what lacks it is refused before it is fetched
    (UsageError). `code`: with the Python files that the model brings. Raises what `plan` and
    `fetch` raise.
    """
    download = missing(path, typed=typed, code=code)
    if download is None:
        return find(path) or path
    progress.note(f"{download.title} is not on this machine: {gigabytes(download.size)} to fetch")
    return fetch(download, progress=progress)


def missing(path: Path, *, typed: bool = True, code: bool = False) -> Download | None:
    """What `local` would fetch; None where it is here or no name of a model."""
    if find(path, code=code) is not None or not is_name(path):
        return None
    download = plan(path, code=code)
    if not typed and MANIFEST not in download.files:
        hint = f"add --model-type ({', '.join(registry.built_in())})"
        raise UsageError(f"{path}: no {MANIFEST} there says which model type it is", hint)
    return download


def gigabytes(size: float) -> str:
    """A size for people."""
    if size < 1e8:
        return f"{size / 1e6:,.1f} MB"
    return f"{size / 1e9:,.1f} GB" if size < 1e10 else f"{size / 1e9:,.0f} GB"


def find(path: Path, *, tokenizer_only: bool = False, code: bool = False) -> Path | None:
    """The folder itself, or the hub cache's whole folder of that name; None where neither is there.

    The hub is not asked, so a name without a revision gives what was newest when it was fetched.
    With `code` a folder of the cache is only whole with the Python files that it points to.
    """
    if path.exists():
        return path
    if not is_name(path):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    name, revision = _parts(path)
    needed = ("tokenizer.model", "tokenizer.json") if tokenizer_only else ("config.json",)
    for file in needed:
        held = try_to_load_from_cache(name, file, revision=revision)
        if isinstance(held, str):  # else it is unknown, or known not to exist
            folder = Path(held).parent
            whole = tokenizer_only or _has_weights(folder)
            if whole and not (code and remote_code.lacking(folder)):
                return folder
    return None


def no_such_folder(path: Path) -> InputError:
    """What to say of a path that is neither a folder nor a model's name."""
    hint = "a folder that `openchat model prepare` or `openchat train` made, or a hub name"
    return InputError(f"{path}: no such folder", hint)


def is_name(path: Path) -> bool:
    """Whether this could be a model on the hub."""
    match = _NAME.fullmatch(path.as_posix())
    return match is not None and not {".", ".."} & set(match[1].split("/"))


def short_name(path: Path) -> str:
    """What to call a model of the hub: its name without owner and revision."""
    return _parts(path)[0].rpartition("/")[2]


def long_name(path: Path) -> str:
    """The name of a model of the hub with its owner, without its revision."""
    return _parts(path)[0]


def plan(path: Path, *, tokenizer_only: bool = False, code: bool = False) -> Download:
    """What to fetch of a model, safetensors rather than pickles, Python files only with `code`.

    Raises InputError where the hub has no such model, asks for a licence, or can't be reached.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError("a model from the hub", "model") from None
    name, revision = _parts(path)
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
    except Exception as error:  # the client's many error classes, over any transport
        raise _unreachable(path.as_posix(), error) from None
    names = [file.rfilename for file in info.siblings or ()]
    wanted = [n for n in names if _matches(n, _TOKENIZER)] if tokenizer_only else _choose(names)
    if code:
        wanted += [n for n in names if _matches(n, ("*.py",))]
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return Download(name, revision, tuple(wanted), sum(sizes[file] for file in wanted))


def fetch(download: Download, *, progress: Progress = SILENT) -> Path:
    """Download the files into the hub's cache, going on with what an earlier try left; gives the
    folder. Raises InputError where the hub fails, OpenChatError where the disk does.
    """
    from huggingface_hub import snapshot_download, utils

    bars: Any = utils
    shown = not bars.are_progress_bars_disabled()
    title = f"fetching {download.title}"
    bars.disable_progress_bars()  # ours is drawn instead
    try:
        with (
            progress.task(title, download.size / 1e6, "MB") as task,
            _watched(_blobs(download.name), task),
        ):
            folder = snapshot_download(
                download.name,
                revision=download.revision,
                allow_patterns=list(download.files),
            )
            task.update(done=download.size / 1e6)
    except OSError as error:
        if error.errno is not None:  # the disk's, not the network's
            place = error.filename or _blobs(download.name)
            raise OpenChatError(f"{place}: {error.strerror}") from None
        raise _unreachable(download.title, error) from None
    except Exception as error:
        raise _unreachable(download.title, error) from None
    finally:
        if shown:
            bars.enable_progress_bars()
    return Path(folder)


def _parts(path: Path) -> tuple[str, str | None]:
    match = _NAME.fullmatch(path.as_posix())
    assert match is not None, "only names are looked up"
    return match[1], match[2]


def _has_weights(folder: Path) -> bool:
    """Whether all weights are there, not only those that came before an interruption."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        if (folder / single).is_file():
            return True
        index = folder / f"{single}.index.json"
        if index.is_file():
            table = jsonl.read_json(index)
            where = table.get("weight_map", {}) if isinstance(table, dict) else {}
            return all((folder / str(file)).is_file() for file in where.values())
    # Weights of a kind that is refused: to be said of this folder, not fetched again.
    return any(folder.glob("*.pt")) or any(folder.glob("*.pth")) or any(folder.glob("*.ckpt"))


def _choose(files: Sequence[str]) -> list[str]:
    top = [file for file in files if "/" not in file]
    # By these names alone: others hold the same weights again, or what training left.
    pattern = "model*.safetensors"
    if not any(_matches(file, (pattern,)) for file in top):
        pattern = "pytorch_model*.bin"
    return [file for file in top if _matches(file, (pattern, *_SIDE))]


def _matches(file: str, patterns: Sequence[str]) -> bool:
    return "/" not in file and any(Path(file).match(pattern) for pattern in patterns)


def _blobs(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"


@contextmanager
def _watched(folder: Path, task: Task) -> Iterator[None]:
    """Tell how many megabytes have come into a folder meanwhile.

    The client's own bars differ from release to release, the files it writes do not.
    """
    before = _bytes_in(folder)
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_EVERY):
            task.update(done=max(0, _bytes_in(folder) - before) / 1e6)

    thread = threading.Thread(target=look, name="download", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bytes_in(folder: Path) -> int:
    total = 0
    if folder.is_dir():
        for path in folder.iterdir():
            try:
                total += path.stat().st_size
            except OSError:  # renamed meanwhile
                continue
    return total


def _unreachable(name: str, error: Exception) -> InputError:
    """One line for whatever went wrong between here and the hub."""
    text = str(error).strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    kinds = {cls.__name__ for cls in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in kinds:
        hint = "accept its terms on the model's page, then: hf auth login"
        return InputError(f"{name}: its owner asks for consent first", hint)
    if "RevisionNotFoundError" in kinds or "RevisionResolutionError" in kinds:
        return InputError(f"{name}: no such folder, and the hub's model has no such revision")
    if "RepositoryNotFoundError" in kinds or status == 401:
        hint = "a private one needs its owner's token: hf auth login, or HF_TOKEN"
        return InputError(f"{name}: no such folder, and no such model on the hub", hint)
    if "OfflineModeIsEnabled" in kinds:
        return InputError(
            f"{name}: no such folder, not in the hub's cache, and HF_HUB_OFFLINE is set",
            "unset HF_HUB_OFFLINE to download it, or name a folder on this machine (--model-path)",
        )
    if status is not None:
        reason = f"it answered {status}"
    hint = "give a folder on this machine; where a command takes no other: --model-path FOLDER"
    return InputError(f"{name}: no such folder, and the hub can't be reached ({reason})", hint)
