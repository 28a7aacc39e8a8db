"""A prepared or trained model in memory, for training and for the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openchat_cli.core.errors import InputError, MissingExtraError, OpenChatError
from openchat_cli.core.manifest import FILE_NAME as MANIFEST
from openchat_cli.core.manifest import Manifest, read_manifest
from openchat_cli.core.progress import SILENT, Progress, Task
from openchat_cli.model import config, remote_code, weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LoadDtype = Literal["auto", "fp32", "bf16", "fp16"]


def require_manifest(path: Path) -> Manifest:
    """The folder's `openchat.json`; InputError with the command that makes one."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder", "a folder that `openchat model prepare` made")
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(
            f"{path}: no {MANIFEST} there, so it is not a prepared model",
            f"openchat model prepare {path} {path.name}-prepared --model-type openchat",
        )
    return manifest


def load_model(
    path: Path,
    *,
    dtype: LoadDtype = "auto",
    device: str | torch.device = "cpu",
    attention: str | None = None,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> PreTrainedModel:
    """The model in evaluation mode on `device`.

    `dtype` auto keeps that of the folder, `attention` is transformers' `attn_implementation`. A
    `manifest` stands in for the `openchat.json` of a released model, which has none. Raises
    InputError where the folder is not prepared, incomplete or damaged, UsageError where it brings
    code of its own that is not trusted.
    """
    manifest = manifest or require_manifest(path)
    remote_code.check(path, trusted=trust_remote_code, progress=progress)
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("loading a model", "model") from None
    transformers_log: Any = logging
    transformers_log.disable_progress_bar()
    from_pretrained: Any = AutoModelForCausalLM.from_pretrained
    found = _check(path, manifest, trust_remote_code)
    wanted = "auto" if dtype == "auto" else getattr(torch, config.torch_name(dtype))
    try:
        with _shown(progress, f"loading {path.name or path}", found.sizes):
            model = from_pretrained(
                path,
                dtype=wanted,
                attn_implementation=attention,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                use_safetensors=not found.pickled,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: the model can't be loaded ({reason})") from None
    return _on(model, device)


@dataclass(frozen=True)
class _Found:
    """What there is to load."""

    sizes: Mapping[str, int]  # bytes of each tensor
    pickled: bool


def _check(path: Path, manifest: Manifest, trust_remote_code: bool) -> _Found:
    """Refuse weights that are not those of config.json: transformers would fill them with noise."""
    checkpoint = weights.Checkpoint(path)
    skeleton = weights.skeleton(path, trust_remote_code=trust_remote_code)
    names = [
        name
        for name in checkpoint.names
        if name in skeleton.shapes or not (weights.is_computed(name) or weights.is_tied(name))
    ]
    found = {name: checkpoint.shape(name) for name in names}
    weights.compare(path, skeleton.shapes, found)
    if skeleton.shapes[skeleton.embeddings[0]][0] <= manifest.eot_id:
        raise InputError(f"{path}: the embedding has no row for the end-of-turn token")
    sizes = {name: checkpoint.size(name) for name in names}
    return _Found(sizes, checkpoint.pickled)


@contextlib.contextmanager
def _shown(progress: Progress, description: str, sizes: Mapping[str, int]) -> Iterator[None]:
    """Tell of transformers' loading, tensor by tensor, in megabytes."""
    from transformers.utils import logging

    hooks: Any = logging
    if not hasattr(hooks, "set_tqdm_hook"):  # an older one: nothing to be told in between
        with progress.task(description, total=1, unit="models") as task:
            yield
            task.advance()
        return
    total = sum(sizes.values()) / 1e6

    def watched(factory: Any, given: Any, named: Any) -> Any:
        items = given[0] if given else None
        return _each(items, task, sizes) if items is not None else factory(*given, **named)

    with progress.task(description, total=total, unit="MB") as task:
        before = hooks.set_tqdm_hook(watched)
        try:
            yield
        finally:
            hooks.set_tqdm_hook(before)
        task.update(done=total)


def _each(items: Iterable[Any], task: Task, sizes: Mapping[str, int]) -> Iterator[Any]:
    for item in items:
        yield item
        name = item[0] if isinstance(item, tuple) else None
        task.advance(sizes.get(name, 0) / 1e6 if isinstance(name, str) else 0)


def _on(model: Any, device: str | torch.device) -> PreTrainedModel:
    import torch

    try:
        moved: PreTrainedModel = model.to(device).eval()
    except torch.OutOfMemoryError:
        size = sum(value.nbytes for value in model.parameters()) / 1e9
        hint = "use --dtype bf16, a smaller model, or a device with more memory"
        raise OpenChatError(f"the model's {size:.1f} GB do not fit on {device}", hint) from None
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OpenChatError(f"device {device} can't be used ({reason})") from None
    return moved
