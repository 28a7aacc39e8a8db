"""Generation on CPU: tokens per CPU-second, batched against one request at a time.

    python tests/benchmarks/serve.py [--clients 1 8 32] [--tokens 64] [--repeat 3]
                                     [--weights fp32 bf16 int8]

A LLaMA of 58 million random weights, prompts of 16 to 96 tokens, greedy answers of equal length.
"one at a time" is transformers' `generate` in fp32 for each request in turn. Engines and reference
run by turns, and medians are compared; ratios hold from machine to machine better than rates do.
The first token's wait is that of the median request when all ask at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from openchat_cli.engine.settings import SamplingParams

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from openchat_cli.core import registry
from openchat_cli.engine import quantized
from openchat_cli.engine.engine import Delta, Engine, Generation
from openchat_cli.engine.runner import Runner

VOCABULARY = 32_000
CONTEXT = 512


class Letters:
    """A tokeniser for random ids: every token is a letter, none ends an answer."""

    bos_id = 0
    eot_id = VOCABULARY
    vocab_size = VOCABULARY

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def token_bytes(self, token: int) -> bytes:
        return b"x"


@dataclass(frozen=True)
class Run:
    """One way of answering all the requests, measured."""

    cpu_seconds: float
    seconds: float
    first_token: float  # seconds, the median request


def build_model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=CONTEXT,
    )
    return LlamaForCausalLM(config).eval()


def prompts(count: int) -> list[list[int]]:
    rng = random.Random(count)
    return [
        [rng.randrange(1, VOCABULARY) for _ in range(rng.randint(16, 96))] for _ in range(count)
    ]


def measured(work: Callable[[], float]) -> Run:
    cpu, wall = time.process_time(), time.perf_counter()
    first = work()
    return Run(time.process_time() - cpu, time.perf_counter() - wall, first)


def batched(engine: Engine, asked: list[list[int]], tokens: int) -> float:
    """All at once through the engine; gives the median wait for a first token."""
    began = time.perf_counter()
    firsts: dict[Generation, float] = {}
    left = len(asked)
    over = threading.Event()

    def deliver(batch: list[tuple[Generation, Delta]]) -> None:
        nonlocal left
        for generation, delta in batch:
            firsts.setdefault(generation, time.perf_counter() - began)
            left -= delta.completion is not None
        if not left:
            over.set()

    params = SamplingParams(temperature=0, max_tokens=tokens)
    for prompt in asked:
        engine.submit(prompt, params, deliver=deliver)
    over.wait()
    return statistics.median(firsts.values())


class FirstToken:
    """Notes when `generate` gives its first token; it hands over the prompt before."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.calls.append(time.perf_counter())

    def end(self) -> None:
        return None

    @property
    def at(self) -> float:
        return self.calls[1]


def one_at_a_time(model: Any, asked: list[list[int]], tokens: int) -> float:
    """Each in turn through `generate`; gives the median wait for a first token."""
    began = time.perf_counter()
    firsts = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        first = FirstToken()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
            streamer=first,
        )
        firsts.append(first.at - began)
    return statistics.median(firsts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--weights", nargs="+", default=["fp32"], choices=["fp32", "bf16", "int8"])
    told = parser.parse_args()
    model = build_model()
    with contextlib.ExitStack() as stack, torch.inference_mode():
        engines = {
            weights: stack.enter_context(build_engine(weights, max(told.clients)))
            for weights in told.weights
        }
        for engine in engines.values():  # warm
            batched(engine, prompts(2), 4)
        one_at_a_time(model, prompts(1), 4)
        for count in told.clients:
            compare(model, engines, count, told.tokens, told.repeat)


def build_engine(weights: str, slots: int) -> Engine:
    model = build_model()
    if weights == "bf16":
        model = model.bfloat16()
    elif weights == "int8":
        quantized.quantize(model, "int8", torch.device("cpu"))
    runner = Runner(model, slots=slots, context=CONTEXT, vocab_size=VOCABULARY)
    return Engine(runner, Letters(), registry.get("openchat"))


def compare(model: Any, engines: dict[str, Engine], count: int, tokens: int, repeat: int) -> None:
    asked = prompts(count)
    theirs: list[Run] = []
    ours: dict[str, list[Run]] = {weights: [] for weights in engines}
    for turn in range(repeat):
        for weights, engine in engines.items():
            # Other prompts in every turn, or the engine would remember them.
            fresh = [[1 + turn, *prompt[1:]] for prompt in asked]
            ours[weights].append(measured(lambda e=engine, p=fresh: batched(e, p, tokens)))
        theirs.append(measured(lambda: one_at_a_time(model, asked, tokens)))
    for weights, runs in ours.items():
        line = compared(count, count * tokens, runs, theirs)
        print(json.dumps({"weights": weights, **line}), flush=True)


def compared(count: int, tokens: int, ours: list[Run], theirs: list[Run]) -> dict[str, Any]:
    def median(runs: list[Run], name: str) -> float:
        return statistics.median(getattr(run, name) for run in runs)

    ratios = [b.cpu_seconds / a.cpu_seconds for a, b in zip(ours, theirs, strict=True)]
    return {
        "clients": count,
        "threads": torch.get_num_threads(),
        "tokens_per_cpu_second": round(tokens / median(ours, "cpu_seconds"), 1),
        "tokens_per_second": round(tokens / median(ours, "seconds"), 1),
        "one_at_a_time": round(tokens / median(theirs, "cpu_seconds"), 1),
        "ratio": round(statistics.median(ratios), 2),
        "first_token_ms": round(1000 * median(ours, "first_token"), 1),
        "one_at_a_time_first_token_ms": round(1000 * median(theirs, "first_token"), 1),
    }


if __name__ == "__main__":
    main()
