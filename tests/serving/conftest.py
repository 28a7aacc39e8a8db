"""A running server over a model made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from openchat_cli.engine.settings import EngineSettings
from openchat_cli.serving.server import Ready, background
from openchat_cli.serving.settings import ServeSettings
from tests.serving.folders import model_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Ready]:
    """A server on a free port, for tests that leave it as it was."""
    engine = EngineSettings(model_path=folder, max_slots=8, queue_size=32, threads=1)
    settings = ServeSettings(engine=engine, port=0, max_tokens=16, max_body_bytes=100_000)
    with background(settings) as ready:
        yield ready


@pytest.fixture
def http(server: Ready) -> Iterator[httpx2.Client]:
    """A plain HTTP client of it."""
    root = server.url.removesuffix("/v1")
    with httpx2.Client(base_url=root, timeout=30) as client:
        yield client
