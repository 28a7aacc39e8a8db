"""What `data embed` leaves: the vectors, and a manifest that says whose they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_cli.core import jsonl
from openchat_cli.core.errors import InputError
from openchat_cli.core.jsonl import STDIO

if TYPE_CHECKING:
    from openchat_cli.data.embedding.local import Vectors

VECTORS = "embeddings.safetensors"
MANIFEST = "embeddings.json"
ROWS = "embedded.jsonl"  # a copy of the rows that came from stdin
VERSION = 1


@dataclass(frozen=True)
class EmbeddingsManifest:
    """`embeddings.json`. `ids` are the vectors' conversations in the order of the rows; `failed`
    maps the place of a row (from 0) that has no vector to the reason.
    """

    method: str  # tfidf-svd, sentence-transformer or endpoint
    model: str | None
    dims: int
    rows: str  # the conversations, relative to the manifest's folder
    input_hash: str
    ids: tuple[str, ...]
    failed: Mapping[int, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    tokens: int | None = None
    usd: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The object on disk."""
        return {
            "kind": "embeddings",
            "version": VERSION,
            "method": self.method,
            "model": self.model,
            "dims": self.dims,
            "count": len(self.ids),
            "rows": self.rows,
            "input_hash": self.input_hash,
            "settings": dict(self.settings),
            "tokens": self.tokens,
            "usd": self.usd,
            "failed": {str(place): reason for place, reason in self.failed.items()},
            "ids": list(self.ids),
        }


def write(folder: Path, vectors: Vectors, manifest: EmbeddingsManifest) -> None:
    """Both files, each whole or not at all; the manifest last."""
    from safetensors.numpy import save

    with jsonl.atomic_output(folder / VECTORS) as stream:
        stream.write(save({"embeddings": vectors}))
    jsonl.write_json(folder / MANIFEST, manifest.to_json())


def read(folder: Path) -> tuple[Vectors, EmbeddingsManifest]:
    """The vectors [count, dims] and their manifest. Raises InputError for files that don't fit."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    manifest = _manifest(folder / MANIFEST)
    path = folder / VECTORS
    try:
        vectors = np.asarray(load_file(path)["embeddings"], dtype=np.float32)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", "openchat data embed INPUT OUT") from None
    except (SafetensorError, KeyError, OSError) as error:
        raise InputError(f"{path}: not embeddings of ours ({error})") from None
    if vectors.shape != (len(manifest.ids), manifest.dims):
        message = f"{path}: {vectors.shape} numbers do not fit {folder / MANIFEST}"
        raise InputError(message, "embed anew with --force")
    return vectors, manifest


def _manifest(path: Path) -> EmbeddingsManifest:
    value = jsonl.read_json(path)
    if not isinstance(value, dict) or value.get("kind") != "embeddings":
        raise InputError(f"{path}: not the manifest of embeddings")
    if value.get("version") != VERSION:
        hint = f"this openchat reads version {VERSION}; a newer one wrote the file"
        raise InputError(f"{path}: a manifest of version {value.get('version')}", hint)
    try:
        return EmbeddingsManifest(
            method=str(value["method"]),
            model=value["model"],
            dims=int(value["dims"]),
            rows=str(value["rows"]),
            input_hash=str(value["input_hash"]),
            ids=tuple(map(str, value["ids"])),
            failed={int(place): str(reason) for place, reason in value["failed"].items()},
            settings=dict(value["settings"]),
            tokens=value["tokens"],
            usd=value["usd"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged manifest ({error})") from None


def place_of(rows: Path, folder: Path) -> str:
    """How the manifest in `folder` names the rows: relative, so that both can move together."""
    if rows == STDIO:
        return ROWS
    return Path(os.path.relpath(rows.resolve(), folder.resolve())).as_posix()
