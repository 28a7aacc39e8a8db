"""`openchat.json` makes a folder of weights one of ours: its type, its tokens, its context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_cli.core import jsonl, registry
from openchat_cli.core.errors import InputError, OpenChatError, UsageError
from openchat_cli.core.registry import ModelType
from openchat_cli.core.templates import template_hash

FILE_NAME = "openchat.json"
VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """What `openchat.json` says of a prepared or trained model.

    `type` is the whole row of the registry, so that a type of the user's own needs no file later.
    """

    type: ModelType
    eot_id: int
    tokenizer_hash: str
    context: int  # tokens

    @property
    def model_type(self) -> str:
        """The type's name."""
        return self.type.name

    @property
    def template_hash(self) -> str:
        """As templates.template_hash."""
        return template_hash(self.type)

    def to_json(self) -> dict[str, Any]:
        """The object on disk."""
        return {
            "kind": "model",
            "version": VERSION,
            "model_type": self.model_type,
            "eot_id": self.eot_id,
            "context": self.context,
            "template_hash": self.template_hash,
            "tokenizer_hash": self.tokenizer_hash,
            "type": registry.dump(self.type),
        }


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's `openchat.json`; None where there is none.

    Raises InputError for one that is damaged, edited, or of a newer version.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    value = jsonl.read_json(path)
    if not isinstance(value, dict) or value.get("kind") != "model":
        raise InputError(f"{path}: not the manifest of a model")
    if value.get("version") != VERSION:
        hint = f"this openchat reads version {VERSION}; a newer one wrote the file"
        raise InputError(f"{path}: a manifest of version {value.get('version')}", hint)
    try:
        manifest = Manifest(
            type=registry.restore(f"{path}: type", value.get("type")),
            eot_id=_whole(value, "eot_id"),
            tokenizer_hash=str(value["tokenizer_hash"]),
            context=_whole(value, "context"),
        )
    except (KeyError, UsageError) as error:
        reason = error.message if isinstance(error, OpenChatError) else f"{error} is missing"
        raise InputError(f"{path}: damaged manifest ({reason})") from None
    if manifest.template_hash != value.get("template_hash"):
        raise InputError(f"{path}: its template_hash does not match its type: was it edited?")
    return manifest


def _whole(value: dict[str, Any], name: str) -> int:
    number = value[name]
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise UsageError(f"'{name}' must be a whole number")
    return number


def resolve_type(
    name: str | None, *, model_path: Path | None = None, model_file: Path | None = None
) -> ModelType:
    """The model type: from the option, else from the model's `openchat.json`.

    Raises UsageError where neither says it, where they disagree, or for a name nobody knows.
    """
    asked = registry.get(name, model_file) if name is not None else None
    manifest = read_manifest(model_path) if model_path is not None else None
    if manifest is None:
        if asked is None:
            raise _unknown(model_path)
        return asked
    if asked is not None and not _same(asked, manifest.type):
        raise UsageError(
            f"--model-type {asked.name}, but {model_path} was prepared as {manifest.model_type}"
            + (" with another format" if asked.name == manifest.model_type else ""),
            "leave --model-type out, or prepare the base model for the other type",
        )
    return manifest.type


def _same(asked: ModelType, found: ModelType) -> bool:
    return asked.name == found.name and template_hash(asked) == template_hash(found)


def _unknown(model_path: Path | None) -> UsageError:
    known = ", ".join(registry.built_in())
    if model_path is None:
        return UsageError("no model type given", f"--model-type, one of {known}")
    hint = f"add --model-type ({known}), or: openchat model prepare BASE OUT --model-type TYPE"
    return UsageError(f"{model_path}: no {FILE_NAME} there says which model type it is", hint)
