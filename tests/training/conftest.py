from __future__ import annotations

import pytest

from tests.training import data


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory):
    return data.write_model(tmp_path_factory.mktemp("model") / "prepared")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return data.write_dataset(tmp_path_factory.mktemp("data"), data.records(22))
