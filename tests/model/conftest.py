"""Base models, and what `prepare` makes of them, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_cli.model.prepare import prepare
from openchat_cli.model.settings import PrepareSettings
from tests.model.bases import make_llama, make_starcoder


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("bases") / "llama")


@pytest.fixture(scope="session")
def starcoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_starcoder(tmp_path_factory.mktemp("bases") / "starcoder")


@pytest.fixture(scope="session")
def prepared_llama(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "llama"
    prepare(PrepareSettings(llama, out, "openchat"))
    return out


@pytest.fixture(scope="session")
def prepared_starcoder(starcoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "starcoder"
    prepare(PrepareSettings(starcoder, out, "opencoder"))
    return out
