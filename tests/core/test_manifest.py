"""openchat.json, and whose word on the model type counts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from openchat_cli.core import registry
from openchat_cli.core.errors import InputError, UsageError
from openchat_cli.core.manifest import Manifest, read_manifest, resolve_type


def prepared(folder: Path, row: registry.ModelType, **changes: Any) -> Path:
    manifest = Manifest(type=row, eot_id=32000, tokenizer_hash="abc", context=row.context)
    (folder / "openchat.json").write_text(json.dumps(manifest.to_json() | changes))
    return folder


LLAMA = registry.get("openchat")


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = read_manifest(prepared(tmp_path, LLAMA))
    assert manifest == Manifest(type=LLAMA, eot_id=32000, tokenizer_hash="abc", context=2048)
    assert read_manifest(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "dataset"}, "not the manifest of a model"),
        ({"version": 2}, "version 2"),
        ({"eot_id": "x"}, "damaged manifest"),
        ({"type": None}, "damaged manifest"),
        ({"template_hash": "x"}, "was it edited"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, changes: Any, reason: str) -> None:
    prepared(tmp_path, LLAMA, **changes)
    with pytest.raises(InputError, match=reason):
        read_manifest(tmp_path)


def test_the_type_comes_from_the_option_or_the_model(tmp_path: Path) -> None:
    assert resolve_type("openchat") == LLAMA
    assert resolve_type(None, model_path=prepared(tmp_path, LLAMA)) == LLAMA
    assert resolve_type("openchat", model_path=tmp_path) == LLAMA


def test_a_type_of_the_users_own_needs_no_file_later(tmp_path: Path) -> None:
    roles = MappingProxyType({"user": "Q: ", "assistant": "A: "})
    mine = dataclasses.replace(LLAMA, name="mine", roles=roles, bos=None)
    assert resolve_type(None, model_path=prepared(tmp_path, mine)) == mine


def test_disagreement_names_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model-type opencoder.*prepared as openchat"):
        resolve_type("opencoder", model_path=prepared(tmp_path, LLAMA))
    roles = MappingProxyType({"user": "Q: ", "assistant": "A: "})
    prepared(tmp_path, dataclasses.replace(LLAMA, roles=roles))
    with pytest.raises(UsageError, match="another format"):
        resolve_type("openchat", model_path=tmp_path)


def test_no_type_at_all_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model type given"):
        resolve_type(None)
    with pytest.raises(UsageError) as caught:
        resolve_type(None, model_path=tmp_path)
    assert "openchat model prepare" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no model type 'x'"):
        resolve_type("x", model_path=tmp_path)
