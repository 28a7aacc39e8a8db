"""Model folders that transformers 4.57 and 5.x, vLLM and `openchat serve` take as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError
from openchat_cli.core.manifest import FILE_NAME as MANIFEST
from openchat_cli.core.manifest import Manifest, read_manifest
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer
from openchat_cli.model import chat, config, weights
from openchat_cli.model.folder import whole_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TEMPLATE = "chat_template.jinja"
# What a trained model takes over from the prepared one it started as.
_SIDE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    _TEMPLATE,
    "generation_config.json",
    MANIFEST,
)
_LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


def write_side_files(
    out: Path, *, base: Path, kind: ModelType, tokenizer: ChatTokenizer, configuration: Any
) -> None:
    """All of a prepared folder but its weights; `base` gives licences and tokenizer.model."""
    base_tokenizer = base / "tokenizer_config.json"
    given = jsonl.read_json(base_tokenizer) if base_tokenizer.is_file() else {}
    tokenizer_config = chat.tokenizer_config(kind, tokenizer, given, kind.context)
    pad = tokenizer.control.get(tokenizer_config["pad_token"])
    manifest = Manifest(
        type=kind, eot_id=tokenizer.eot_id, tokenizer_hash=tokenizer.hash, context=kind.context
    )
    jsonl.write_json(out / "config.json", configuration)
    jsonl.write_json(out / "generation_config.json", config.generation(tokenizer, pad))
    jsonl.write_json(out / "tokenizer.json", chat.tokenizer_json(kind, tokenizer))
    jsonl.write_json(out / "tokenizer_config.json", tokenizer_config)
    jsonl.write_text(out / _TEMPLATE, chat.chat_template(kind, tokenizer))
    jsonl.write_json(out / MANIFEST, manifest.to_json())
    _copy(base, out, ("tokenizer.model", *_LICENCES))


def _copy(source: Path, out: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, out / path.name)


def write_folder(
    out: Path,
    *,
    like: Path,
    model: PreTrainedModel | None = None,
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """A trained model as a folder: the prepared folder `like` with other weights.

    The weights are `state_dict`, or the model's own; tied and missing-by-design tensors may be in
    it. Their dtype is kept. The folder appears whole or not at all; other files already in `out`
    stay. Raises InputError where the tensors are not those of `like`, before anything is written.
    """
    if read_manifest(like) is None:
        raise InputError(f"{like}: no {MANIFEST} there", "openchat model prepare makes it")
    if state_dict is None:
        if model is None:
            raise ValueError("either the model or its tensors")
        state_dict = model.state_dict()
    expected = weights.skeleton(like).shapes
    kept = {name: state_dict[name].detach() for name in state_dict if name in expected}
    weights.compare(like, expected, {name: list(tensor.shape) for name, tensor in kept.items()})
    configuration = jsonl.read_json(like / "config.json")
    dtype = str(next(iter(kept.values())).dtype).removeprefix("torch.")
    configuration["dtype"] = configuration["torch_dtype"] = dtype
    with whole_folder(out) as work:
        weights.write(work, ((name, tensor.cpu()) for name, tensor in kept.items()))
        jsonl.write_json(work / "config.json", configuration)
        _copy(like, work, (*_SIDE_FILES, *_LICENCES))
