"""Checkpoints read and written tensor by tensor, so that memory does not grow with the model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError

if TYPE_CHECKING:
    import torch

SHARD_BYTES = 2 * 1024**3
_INDEX = "model.safetensors.index.json"


class Checkpoint:
    """The tensors of a model folder: `model.safetensors`, its shards, or 2023's `.bin` files.

    Pickles are read with `weights_only`: tensors come out, no code runs. Raises InputError where
    the weights are missing, incomplete or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}  # file name -> an open file or a dict of tensors
        self._where = self._locate()

    @property
    def names(self) -> list[str]:
        """Every tensor's name, in file order."""
        return list(self._where)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, read from the disk when used."""
        file = self._open[self._where[name]]
        found: torch.Tensor = file[name] if isinstance(file, dict) else file.get_tensor(name)
        return found

    def shape(self, name: str) -> list[int]:
        """A tensor's shape, without reading it."""
        file = self._open[self._where[name]]
        if isinstance(file, dict):
            return list(file[name].shape)
        return list(file.get_slice(name).get_shape())

    def _locate(self) -> dict[str, str]:
        for single, index, opener in (
            ("model.safetensors", _INDEX, _open_safetensors),
            ("pytorch_model.bin", "pytorch_model.bin.index.json", _open_pickle),
        ):
            if (self.folder / index).is_file():
                return self._sharded(self.folder / index, opener)
            if (self.folder / single).is_file():
                return dict.fromkeys(self._names_in(single, opener), single)
        raise InputError(
            f"{self.folder}: no weights there (model.safetensors, its shards, or .bin files)",
            "a base folder holds config.json, the tokeniser and the weights",
        )

    def _sharded(self, index: Path, opener: Callable[[Path], Any]) -> dict[str, str]:
        where = jsonl.read_json(index).get("weight_map", {})
        for shard in sorted(set(where.values())):
            held = self._names_in(shard, opener)
            lost = [name for name, file in where.items() if file == shard and name not in held]
            if lost:
                raise InputError(f"{self.folder / shard}: lacks {lost[0]}, which {index} names")
        return dict(where)

    def _names_in(self, name: str, opener: Callable[[Path], Any]) -> list[str]:
        path = self.folder / name
        if not path.is_file():
            hint = "the download is incomplete: fetch the folder again"
            raise InputError(f"{path}: this shard is missing", hint)
        self._open[name] = opener(path)
        return list(self._open[name].keys())


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None


def _open_pickle(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        # Old files are not zip archives and can't be mapped.
        with contextlib.suppress(RuntimeError):
            return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: can't be read as plain tensors ({reason})") from None


def write(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    *,
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write safetensors into `folder`, in shards of at most `shard_bytes` where one tensor allows.

    Gives the bytes written. At most one shard is in memory at a time.
    """
    from safetensors.torch import save_file

    shards: list[list[str]] = []
    waiting: dict[str, torch.Tensor] = {}
    total = size = 0

    def flush() -> None:
        nonlocal size
        path = folder / f".{len(shards)}.safetensors"
        save_file(waiting, path, metadata={"format": "pt"})
        shards.append(list(waiting))
        waiting.clear()
        size = 0

    for name, tensor in tensors:
        if waiting and size + tensor.nbytes > shard_bytes:
            flush()
        # A view into a bigger buffer would be taken for a tensor that shares its memory.
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        waiting[name] = tensor.contiguous() if whole else tensor.clone().contiguous()
        size += tensor.nbytes
        total += tensor.nbytes
    flush()
    _name_shards(folder, shards, total)
    return total


def _name_shards(folder: Path, shards: list[list[str]], total: int) -> None:
    if len(shards) == 1:
        (folder / ".0.safetensors").replace(folder / "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / f".{number}.safetensors").replace(folder / file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


@dataclass(frozen=True)
class Skeleton:
    """What a config.json asks for: tensors by name and shape (tied ones left out)."""

    shapes: Mapping[str, list[int]]
    embeddings: tuple[str, ...]  # the input's, and the output's where it is not tied to it


def skeleton(folder: Path) -> Skeleton:
    """The tensors that belong to the folder's config.json.

    The model is built without memory, so this costs no more than the import of torch.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    build: Any = AutoModelForCausalLM.from_config
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = build(config, trust_remote_code=False)
    except StrictDataclassError as error:  # says on its first line that, on its last why
        raise _unbuildable(folder, str(error).strip().splitlines()[-1].strip()) from None
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        raise _unbuildable(folder, str(error).strip().splitlines()[0]) from None
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    ends = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    names = [
        next(name for name, value in model.state_dict(keep_vars=True).items() if value is end)
        for end in ends
    ]
    return Skeleton(
        {name: list(value.shape) for name, value in model.state_dict().items() if name not in tied},
        tuple(name for name in names if name not in tied),
    )


def _unbuildable(folder: Path, reason: str) -> InputError:
    return InputError(f"{folder / 'config.json'}: no model can be built ({reason})")


def compare(
    folder: Path, expected: Mapping[str, list[int]], found: Mapping[str, list[int]]
) -> None:
    """Refuse tensors that are not the expected ones; InputError names `folder` and the first."""
    missing = [name for name in expected if name not in found]
    if missing:
        raise InputError(
            f"{folder}: the weights lack {missing[0]}{_and_more(missing)}",
            "is the folder complete, and config.json the one of these weights?",
        )
    extra = [name for name in found if name not in expected]
    if extra:
        message = f"{folder}: the weights hold {extra[0]}{_and_more(extra)}"
        raise InputError(message, "config.json describes a model without it")
    for name, shape in expected.items():
        if found[name] != shape:
            raise InputError(f"{folder}: {name} is {found[name]}, config.json says {shape}")


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
