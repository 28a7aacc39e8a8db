"""A model's config.json and generation_config.json: what is read of a base's, what ours say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.registry import ModelType
from openchat_cli.core.tokens import ChatTokenizer

Json = dict[str, Any]

# Names of the context length by architecture; where positions are learned, it can't grow.
_LEARNED_POSITIONS = {"gpt_bigcode": "n_positions"}
_CONTEXT = "max_position_embeddings"
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class BaseConfig:
    """The part of a base's config.json that preparing needs."""

    values: Json
    context: int  # tokens
    learned_positions: bool


def read(folder: Path, kind: ModelType) -> BaseConfig:
    """The base's configuration; raises where it is missing or of another architecture."""
    path = folder / "config.json"
    if not path.is_file():
        hint = "a base folder holds config.json, the tokeniser and the weights"
        raise InputError(f"{folder}: no config.json there", hint)
    values = jsonl.read_json(path)
    found = values.get("model_type") if isinstance(values, dict) else None
    if found != kind.architecture:
        raise UsageError(
            f"{folder} is a {found or 'nameless'} model, {kind.name} needs {kind.architecture}",
            "openchat model list shows the types; a type of your own goes in a --model-file",
        )
    if values.get("quantization_config"):
        raise UsageError(f"{folder}: its weights are quantised, the full ones are needed")
    learned = kind.architecture in _LEARNED_POSITIONS
    name = _LEARNED_POSITIONS.get(kind.architecture, _CONTEXT)
    context = values.get(name, {"n_positions": 1024}.get(name, 2048))
    if not isinstance(context, int) or context < 1:
        raise InputError(f"{path}: '{name}' must be a whole number of tokens")
    return BaseConfig(values, context, learned)


def check_context(kind: ModelType, base: Path, config: BaseConfig) -> str | None:
    """What to warn of where the type's context is not the base's.

    Raises UsageError where positions are learned: there is nothing beyond the last one.
    """
    if kind.context <= config.context:
        return None
    if config.learned_positions:
        raise UsageError(
            f"{base}: learns its positions, of which it has {config.context}: they can't be "
            f"extended to the {kind.context} of type {kind.name}",
            f"add --context {config.context}",
        )
    return (
        f"the base was trained on {config.context} tokens, the context will be {kind.context}: "
        f"RoPE extrapolates {kind.context / config.context:.3g}-fold, untrained until you train it"
    )


def prepared(
    base: BaseConfig, kind: ModelType, tokenizer: ChatTokenizer, *, rows: int, dtype: str
) -> Json:
    """The config.json of the prepared model, read alike by transformers 4.57 and 5.x."""
    values = {key: value for key, value in base.values.items() if key not in _DROPPED}
    values["vocab_size"] = rows
    values["eos_token_id"] = tokenizer.eot_id
    if tokenizer.bos_id is not None:
        values["bos_token_id"] = tokenizer.bos_id
    values["dtype"] = values["torch_dtype"] = dtype
    if not base.learned_positions:
        values[_CONTEXT] = max(base.context, kind.context)
        values |= _rope(base.values)
    return values


# Pointers to remote code, to where a base came from, and what is set anew.
_DROPPED = ("auto_map", "_name_or_path", "transformers_version", "torch_dtype", "dtype")


def _rope(values: Json) -> Json:
    """4.57 reads `rope_theta` and `rope_scaling`, 5.x wrote `rope_parameters`."""
    nested = values.get("rope_parameters") or {}
    theta = values.get("rope_theta", nested.get("rope_theta", 10000.0))
    found: Json = {"rope_theta": theta}
    if nested.get("rope_type", "default") != "default":
        found["rope_scaling"] = {k: v for k, v in nested.items() if k != "rope_theta"}
    return found


def generation(tokenizer: ChatTokenizer, pad_id: int | None) -> Json:
    """The generation_config.json: a model ends its turn with the end-of-turn token."""
    values: Json = {"eos_token_id": tokenizer.eot_id}
    if tokenizer.bos_id is not None:
        values["bos_token_id"] = tokenizer.bos_id
    if pad_id is not None:
        values["pad_token_id"] = pad_id
    return values


def dtype_name(torch_name: str) -> str:
    """The short name ("bf16") of torch's ("bfloat16")."""
    return _DTYPES.get(torch_name, torch_name)


def torch_name(short: str) -> str:
    """Torch's name of "fp32", "bf16" or "fp16"."""
    return {name: full for full, name in _DTYPES.items()}[short]
