"""Checkpoints read and written tensor by tensor, so that memory does not grow with the model."""

from __future__ import annotations

import contextlib
import json
import math
import re
import warnings
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
# Pickled weights that nothing here reads, whatever is in them.
_OTHER_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Buffers that old checkpoints hold beside the weights; each is computed from the configuration.
_BUFFERS = re.compile(r"rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
# Bits of safetensors' dtypes that are not 16.
_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "I8": 8, "U8": 8, "BOOL": 8}


class Checkpoint:
    """The tensors of a model folder: `model.safetensors`, its shards, or 2023's `.bin` files.

    Pickles are read with `weights_only`: tensors come out, no code runs. Raises InputError where
    the weights are missing, incomplete, damaged, or of another pickled format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}  # file name -> an open file or a dict of tensors
        self._where = self._locate()

    @property
    def names(self) -> list[str]:
        """Every tensor's name, in file order."""
        return list(self._where)

    @property
    def pickled(self) -> bool:
        """Whether the tensors are in `.bin` files."""
        return any(isinstance(file, dict) for file in self._open.values())

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

    def size(self, name: str) -> int:
        """A tensor's bytes, without reading it."""
        file = self._open[self._where[name]]
        if isinstance(file, dict):
            return int(file[name].nbytes)
        part = file.get_slice(name)
        return int(math.prod(part.get_shape())) * _BITS.get(part.get_dtype(), 16) // 8

    def _locate(self) -> dict[str, str]:
        for single, index, opener in (
            ("model.safetensors", _INDEX, _open_safetensors),
            ("pytorch_model.bin", "pytorch_model.bin.index.json", _open_pickle),
        ):
            if (self.folder / index).is_file():
                return self._sharded(self.folder / index, Path(single).suffix, opener)
            if (self.folder / single).is_file():
                return dict.fromkeys(self._names_in(single, opener), single)
        others = [path.name for path in self.folder.iterdir() if path.suffix in _OTHER_PICKLES]
        if others:
            raise InputError(
                f"{self.folder}: its weights ({min(others)}) are a pickle, which may run code when "
                "it is read: refused",
                "safetensors and pytorch_model.bin (read as plain tensors) are taken",
            )
        raise InputError(
            f"{self.folder}: no weights there (model.safetensors, its shards, or .bin files)",
            "a base folder holds config.json, the tokeniser and the weights",
        )

    def _sharded(self, index: Path, suffix: str, opener: Callable[[Path], Any]) -> dict[str, str]:
        table = jsonl.read_json(index)
        where = table.get("weight_map") if isinstance(table, dict) else None
        if not isinstance(where, dict) or not where:
            raise InputError(f"{index}: no weight_map, which says where each tensor is")
        for shard in sorted(set(map(str, where.values()))):
            if Path(shard).name != shard or not shard.endswith(suffix):
                raise InputError(f"{index}: names {shard!r}, which is no {suffix} file beside it")
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle, which fails anyway or is right
            # Old files are not zip archives and can't be mapped.
            with contextlib.suppress(RuntimeError, ValueError):
                return _tensors(path, torch.load(path, "cpu", weights_only=True, mmap=True))
            return _tensors(path, torch.load(path, "cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        wanted = _WANTED.search(str(error))
        what = f"calls {wanted[1]}" if wanted else "is not a whole pickle"
        raise InputError(
            f"{path}: {what}, so it is more than plain tensors: refused, nothing of it was run",
            "take the model's safetensors, or its weights from their first source",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: can't be read as plain tensors ({reason})") from None


# How torch says which function a pickle wanted.
_WANTED = re.compile(r"GLOBAL ([\w.]+)")


def _tensors(path: Path, found: Any) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no table of tensors")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name!r} is no tensor")
    return dict(found)


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


def is_computed(name: str) -> bool:
    """Whether an old checkpoint's tensor is no weight: the configuration gives its numbers."""
    return _BUFFERS.search(name) is not None


def is_tied(name: str) -> bool:
    """Whether an unexpected tensor is a tied output embedding, saved though it is the input's."""
    return name == "lm_head.weight"


def skeleton(folder: Path, *, trust_remote_code: bool = False) -> Skeleton:
    """The tensors that belong to the folder's config.json.

    The model is built without memory, so this costs no more than the import of torch. Code that
    the folder brings runs only where it is trusted.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModelForCausalLM

    build: Any = AutoModelForCausalLM.from_config
    try:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
        with torch.device("meta"):
            model = build(config, trust_remote_code=trust_remote_code)
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
