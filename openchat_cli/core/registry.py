"""The model types, as plain data: what a conversation looks like to a model and how it is trained.

A row of the user's own comes from a TOML file (`--model-file`):

    [my-model]
    extends = "openchat"        # a built-in type whose values are taken where the file is silent
    base = "someone/some-model"
    context = 4096
    bos = ""                    # no token at the beginning
    [my-model.roles]
    user = "Question: "
    assistant = "Answer: "
    [my-model.recipe]
    learning_rate = 1e-5
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

from openchat_cli.core.errors import InputError, UsageError, did_you_mean

_NAME = re.compile(r"\w[\w.-]*")

EOT = "<|end_of_turn|>"


@dataclass(frozen=True)
class Recipe:
    """How the original trained this type; every value is a default of `openchat train`."""

    batch_size: int = 128  # conversations in one optimiser step, over all ranks
    learning_rate: float = 2e-5
    epochs: int = 5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    gradient_clipping: float = 1.0
    dtype: Literal["bf16", "fp32"] = "bf16"
    zero_stage: int = 2
    gradient_checkpointing: bool = True


@dataclass(frozen=True)
class ModelType:
    """One row of the table.

    `roles` maps a message's role to the text before it; a role that is missing can't be rendered.
    `eot_init` is how the embedding of a new end-of-turn token starts: the exact mean of all
    existing rows, or a normal draw with standard deviation 0.02.
    """

    name: str
    title: str
    architecture: str  # as transformers calls it in config.json ("model_type")
    base: str  # hub name of the model that `model prepare` starts from
    released: str  # hub name of the fine-tuned weights
    license: str  # of the weights, which is not this project's
    context: int  # tokens
    roles: Mapping[str, str]
    bos: str | None  # the token every conversation begins with
    eot: str = EOT
    eot_init: Literal["mean", "normal"] = "mean"
    tokenizer: Literal["sentencepiece", "byte-level"] = "sentencepiece"
    parameters: float = 13.0e9
    recipe: Recipe = field(default_factory=Recipe)
    aliases: tuple[str, ...] = ()


_OPENCHAT = ModelType(
    name="openchat",
    title="OpenChat (LLaMA-13B, 2048 tokens)",
    architecture="llama",
    base="huggyllama/llama-13b",
    released="openchat/openchat",
    license="LLaMA (non-commercial research)",
    context=2048,
    roles=MappingProxyType({"user": "Human: ", "assistant": "Assistant: "}),
    bos="<s>",
)
_BUILT_IN = (
    _OPENCHAT,
    dataclasses.replace(
        _OPENCHAT,
        name="openchat_8192",
        title="OpenChat-8192 (LLaMA-13B, 8192 tokens)",
        released="openchat/openchat_8192",
        context=8192,
    ),
    ModelType(
        name="opencoder",
        aliases=("opencoderplus",),
        title="OpenCoderPlus (StarCoderPlus-15B, 8192 tokens)",
        architecture="gpt_bigcode",
        base="bigcode/starcoderplus",
        released="openchat/opencoderplus",
        license="BigCode OpenRAIL-M v1",
        context=8192,
        roles=MappingProxyType({"user": "User:", "assistant": "Assistant:"}),
        bos=None,
        eot_init="normal",
        tokenizer="byte-level",
        parameters=15.5e9,
    ),
    dataclasses.replace(
        _OPENCHAT,
        name="openchat_3.5",
        aliases=("openchat_v3.2_mistral", "openchat-3.5", "openchat-3.5-0106", "openchat-3.5-1210"),
        title="OpenChat 3.5 (Mistral-7B, 8192 tokens)",
        architecture="mistral",
        base="mistralai/Mistral-7B-v0.1",
        released="openchat/openchat_3.5",
        license="Apache-2.0",
        context=8192,
        # A system text stands alone, without a prefix and with an end of its own.
        roles=MappingProxyType(
            {
                "system": "",
                "user": "GPT4 Correct User:",
                "assistant": "GPT4 Correct Assistant:",
            }
        ),
        parameters=7.24e9,
    ),
)


def built_in() -> dict[str, ModelType]:
    """The types the suite ships, by name."""
    return {row.name: row for row in _BUILT_IN}


def get(name: str, model_file: Path | None = None) -> ModelType:
    """The type of that name or alias; UsageError with a suggestion where there is none."""
    known = built_in()
    if model_file is not None:
        known |= load(model_file)
    by_alias = {alias: row for row in known.values() for alias in row.aliases}
    found = known.get(name) or by_alias.get(name)
    if found is None:
        raise UsageError(f"no model type '{name}'", did_you_mean(name, known))
    return found


def load(path: Path) -> dict[str, ModelType]:
    """The user's own types from a TOML file, one table each."""
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    for name in tables.keys() & built_in():
        raise UsageError(f"{path}: [{name}] is a built-in type", "give yours a name of its own")
    return {name: _from_table(path, name, table) for name, table in tables.items()}


def dump(kind: ModelType) -> dict[str, Any]:
    """The row as JSON can hold it; `restore` reads it back."""
    table = {item.name: getattr(kind, item.name) for item in dataclasses.fields(kind)}
    plain = {"roles": dict(kind.roles), "aliases": list(kind.aliases)}
    return table | plain | {"recipe": dataclasses.asdict(kind.recipe)}


def restore(where: str, table: Any) -> ModelType:
    """A row that `dump` wrote; UsageError names `where` and what does not fit."""
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise UsageError(f"{where} must be a table with a name")
    values = {key: value for key, value in table.items() if key != "name"}
    return _from_values(where, table["name"], _OPENCHAT, values)


def _from_table(path: Path, name: str, table: Any) -> ModelType:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict):
        raise UsageError(f"{where} must be a table")
    values = dict(table)
    if "name" in values:
        raise UsageError(f"{where} has no setting 'name'", "the table's own name is the type's")
    parent = values.pop("extends", None)
    if not isinstance(parent, str) or parent not in built_in():
        hint = f"extends must be one of {', '.join(built_in())}"
        raise UsageError(f"{where} needs 'extends', the built-in type it is like", hint)
    return _from_values(where, name, built_in()[parent], values)


def _from_values(where: str, name: str, start: ModelType, given: dict[str, Any]) -> ModelType:
    values = dict(given)
    recipe = _replace(f"{where}.recipe", start.recipe, values.pop("recipe", {}))
    if "roles" in values:
        roles = values["roles"]
        if not isinstance(roles, dict) or not {"user", "assistant"} <= roles.keys():
            raise UsageError(f"{where}.roles must have at least user and assistant")
        values["roles"] = MappingProxyType(roles)
    if "aliases" in values:
        aliases = values["aliases"]
        if not isinstance(aliases, list) or not all(isinstance(one, str) for one in aliases):
            raise UsageError(f"{where}.aliases must be a list of names")
        values["aliases"] = tuple(aliases)
    bos = values.pop("bos", start.bos)
    if bos is not None and not isinstance(bos, str):
        raise UsageError(f"{where}.bos must be of type str")
    fresh = {"name": name, "title": name, "aliases": (), "recipe": recipe}
    made: ModelType = _replace(where, start, fresh | values)
    made = dataclasses.replace(made, bos=bos or None)
    _check(where, made)
    return made


def _check(where: str, kind: ModelType) -> None:
    """Refuse values that no later code could work with."""
    if not _NAME.fullmatch(kind.name):
        hint = "letters, digits and . _ - make a name: files are called by it"
        raise UsageError(f"{where}: '{kind.name}' can't be the name of a type", hint)
    if kind.context < 1:
        raise UsageError(f"{where}.context must be at least 1 token")
    if not kind.eot or kind.eot == kind.bos:
        raise UsageError(f"{where}.eot must be a token of its own")
    if not all(isinstance(text, str) for text in kind.roles.values()):
        raise UsageError(f"{where}.roles must be texts")
    for row in (kind, kind.recipe):
        for item in dataclasses.fields(row):
            choices = get_args(get_type_hints(type(row))[item.name])
            value = getattr(row, item.name)
            if choices and all(isinstance(one, str) for one in choices) and value not in choices:
                listing = did_you_mean(str(value), choices)
                raise UsageError(f"{where}.{item.name} can't be {value!r}", listing)


def _replace(where: str, start: Any, values: Any) -> Any:
    known = {item.name: item for item in dataclasses.fields(start)}
    if not isinstance(values, dict):
        raise UsageError(f"{where} must be a table")
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"{where} has no setting '{key}'", did_you_mean(key, known))
        before = getattr(start, key)
        fits = isinstance(value, type(before))
        if isinstance(before, float) and isinstance(value, int) and not isinstance(value, bool):
            fits = True
        if not fits or (isinstance(value, bool) and not isinstance(before, bool)):
            raise UsageError(f"{where}.{key} must be of type {type(before).__name__}")
    return dataclasses.replace(start, **values)
