"""A prepared or trained model in memory, for training and for the engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openchat_cli.core.errors import InputError, MissingExtraError, OpenChatError
from openchat_cli.core.manifest import FILE_NAME as MANIFEST
from openchat_cli.core.manifest import Manifest, read_manifest
from openchat_cli.model import config, weights

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
) -> PreTrainedModel:
    """The model in evaluation mode on `device`; remote code never runs.

    `dtype` auto keeps that of the folder, `attention` is transformers' `attn_implementation`. A
    `manifest` stands in for the `openchat.json` of a released model, which has none. Raises
    InputError where the folder is not prepared, incomplete or damaged.
    """
    manifest = manifest or require_manifest(path)
    try:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("loading a model", "model") from None
    transformers_log: Any = logging
    transformers_log.disable_progress_bar()
    from_pretrained: Any = AutoModelForCausalLM.from_pretrained
    _check(path, manifest)
    wanted = "auto" if dtype == "auto" else getattr(torch, config.torch_name(dtype))
    try:
        model = from_pretrained(
            path,
            dtype=wanted,
            attn_implementation=attention,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: the model can't be loaded ({reason})") from None
    return _on(model, device)


def _check(path: Path, manifest: Manifest) -> None:
    """Refuse weights that are not those of config.json: transformers would fill them with noise."""
    checkpoint = weights.Checkpoint(path)
    skeleton = weights.skeleton(path)
    found = {name: checkpoint.shape(name) for name in checkpoint.names}
    weights.compare(path, skeleton.shapes, found)
    if skeleton.shapes[skeleton.embeddings[0]][0] <= manifest.eot_id:
        raise InputError(f"{path}: the embedding has no row for the end-of-turn token")


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
