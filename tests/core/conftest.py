"""Small tokenisers, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.small import make_byte_level, make_sentencepiece


@pytest.fixture(scope="session")
def llama_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sentencepiece(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def starcoder_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_byte_level(tmp_path_factory.mktemp("starcoder"))
