"""AlpacaEval's own decoder: it retries by the words in our errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from .conftest import MODEL, Server

pytest.importorskip("alpaca_eval")

import openai  # comes with alpaca_eval
from alpaca_eval.decoders.openai import openai_completions

Serving = Callable[..., AbstractContextManager[Server]]
CHATML = "<|im_start|>system\nBe brief.\n<|im_end|>\n<|im_start|>user\nHello\n<|im_end|>"


@pytest.fixture
def decode(server: Server, tmp_path: Path) -> Callable[..., Any]:
    def run(prompts: list[str], url: str = server.url, **more: Any) -> Any:
        config = tmp_path / "clients.yaml"
        config.write_text(f"default:\n  - api_key: none\n    base_url: {url}\n    max_retries: 0\n")
        options = {"max_tokens": 6, "num_procs": 2, "price_per_token": 0.0, "sleep_time": 1}
        return openai_completions(prompts, MODEL, client_config_path=config, **{**options, **more})

    return run


def test_chat(decode: Callable[..., Any]) -> None:
    found = decode([CHATML] * 3, requires_chatml=True, temperature=0.0)
    assert len(set(found["completions"])) == 1
    assert found["completions_all"][0]["finish_reason"] in ("stop", "length")
    assert found["completions_all"][0]["total_tokens"] > 0


def test_plain(decode: Callable[..., Any]) -> None:
    found = decode(["Hello", "a", "the world"], requires_chatml=False, batch_size=2)
    assert len(found["completions"]) == 3


def test_a_prompt_too_long_ends_its_tries(decode: Callable[..., Any]) -> None:
    # It lowers max_tokens as long as the error says "Please reduce", and gives up at 0.
    prompt = CHATML.replace("Hello", "x" * 9000)
    with pytest.raises(openai.BadRequestError, match="Please reduce"):
        decode([prompt], requires_chatml=True, num_procs=1)


def test_a_full_server_is_waited_for(decode: Callable[..., Any], serving: Serving) -> None:
    with serving("--max-slots", 1, "--queue-size", 1) as server:
        found = decode([CHATML] * 12, url=server.url, requires_chatml=True, num_procs=6)
    assert len(found["completions"]) == 12
    assert all(choice["total_tokens"] > 0 for choice in found["completions_all"])
