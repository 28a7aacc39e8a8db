"""LangChain's own tests of a chat model, all but those of tools, images and forced JSON."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import MODEL, Server

pytest.importorskip("langchain_tests")
pytest.importorskip("langchain_openai")

from langchain_openai import ChatOpenAI  # after importorskip
from langchain_tests.integration_tests import ChatModelIntegrationTests

_ADDRESS: dict[str, str] = {}


@pytest.fixture(autouse=True, scope="module")
def _address(server: Server) -> None:
    _ADDRESS["url"] = server.url


class TestServer(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "base_url": _ADDRESS.get("url", "http://127.0.0.1:9/v1"),
            "api_key": "none",
            "temperature": 0.5,
            "seed": 3,
            "stream_usage": True,
        }

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return False

    @property
    def model_override_value(self) -> str:
        return "tiny"  # the folder's name, which the server answers to as well
