"""Serving on a CPU: tokens per CPU-second over HTTP, and every bar that was set for it.

    python tests/benchmarks/serve.py [--quick] [--pairs 5] [--tokens 64]

A LLaMA of 58 million random weights, prompts of 16 to 96 tokens, greedy answers of equal length,
one thread each. Measured against it: `transformers serve --continuous-batching` over HTTP too, and
transformers' `generate` in fp32 for each request in turn, with no HTTP. Servers are processes, and
it is their CPU time that counts. What is compared runs by turns, and the median of the pairs'
ratios is given: ratios hold from machine to machine better than rates do. 8-bit weights are
compared with bf16 in one process, and for 268 million weights as well.

`transformers serve` needs packages that the project doesn't have: they are installed into an
environment that is thrown away; without a network its bars are left out. With --quick a much
smaller model and fewer runs only show that all of it works: its figures say nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from openchat_cli.engine.engine import Delta, Engine, Generation
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from tests.benchmarks.parts.model import LARGER, LLAMA, SMALL, Size, make_folder
from tests.benchmarks.parts.server import Run, Server, ours, peer_python, transformers

MANY = 32
MOST_HEALTH_MS = 100


@dataclass
class Report:
    """What was measured against which bar."""

    failed: list[str] = field(default_factory=list)

    def bar(self, name: str, value: float, least: float, unit: str = "x") -> None:
        """Print a figure and whether it is at least the bar."""
        self._say(name, value, value >= least, f">= {least:g}{unit}", unit)

    def limit(self, name: str, value: float, most: float, unit: str = "x") -> None:
        """Print a figure and whether it stays below the limit."""
        self._say(name, value, value <= most, f"<= {most:g}{unit}", unit)

    def _say(self, name: str, value: float, good: bool, bar: str, unit: str) -> None:
        print(f"{'pass' if good else 'FAIL'}  {name}: {value:.3g}{unit}  (bar {bar})", flush=True)
        if not good:
            self.failed.append(name)


class Prompts:
    """Prompts that no server has seen before, the same for all that are compared."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._random = random.Random(0)

    def fresh(self, count: int) -> list[str]:
        return [
            " ".join(self._random.choices(self._words, k=self._random.randint(16, 96)))
            for _ in range(count)
        ]


class OneAtATime:
    """Each request in turn through transformers' `generate`, the first token's wait noted."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)

    def ask(self, prompts: Sequence[str], tokens: int) -> Run:
        cpu, wall = time.process_time(), time.perf_counter()
        firsts = []
        for prompt in prompts:
            calls = _Calls()
            inputs = self._tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            with torch.inference_mode():
                self._model.generate(
                    **inputs,
                    do_sample=False,
                    min_new_tokens=tokens,
                    max_new_tokens=tokens,
                    pad_token_id=0,
                    streamer=calls,
                )
            firsts.append(calls.times[1] - wall)
        return Run(
            len(prompts) * tokens,
            time.process_time() - cpu,
            time.perf_counter() - wall,
            statistics.median(firsts),
        )


class _Calls:
    """When `generate` handed over the prompt, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        return None


Ask = Callable[[Sequence[str], int], Run]


def paired(
    prompts: Prompts, count: int, tokens: int, pairs: int, sides: dict[str, Ask]
) -> dict[str, list[Run]]:
    """Both sides by turns on the same prompts."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for turn in range(pairs):
        asked = prompts.fresh(count)
        order = list(sides.items())
        for name, ask in order if turn % 2 else reversed(order):
            runs[name].append(ask(asked, tokens))
    for name, found in runs.items():
        rate = statistics.median(run.rate for run in found)
        speed = statistics.median(run.tokens / run.seconds for run in found)
        first = 1000 * statistics.median(run.first for run in found)
        print(
            f"      {name}, {count} at once: {rate:.1f} tokens per CPU-second, "
            f"{speed:.1f} a second, first text after {first:.0f} ms",
            flush=True,
        )
    return runs


def ratio(runs: dict[str, list[Run]], one: str, other: str) -> float:
    """The median of the pairs' ratios of tokens per CPU-second."""
    pairs = zip(runs[one], runs[other], strict=True)
    return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)


def warm(prompts: Prompts, tokens: int, *asks: Ask) -> None:
    """First requests load code and lay out memory: the slots', as far as they will be filled."""
    for ask in asks:
        ask(prompts.fresh(1), 8)
        ask(prompts.fresh(MANY), tokens)


def against_one_at_a_time(
    report: Report, server: Server, alone: OneAtATime, prompts: Prompts, tokens: int
) -> None:
    alone.ask(prompts.fresh(2), 4)
    sides: dict[str, Ask] = {"openchat": server.ask, "one at a time": alone.ask}
    for count in (1, 8):
        runs = paired(prompts, count, tokens, 1, sides)
        print(f"      {ratio(runs, 'openchat', 'one at a time'):.2f}x one at a time")
    runs = paired(prompts, MANY, tokens, 1, sides)
    report.bar("32 clients against one at a time", ratio(runs, "openchat", "one at a time"), 8)
    waits = [statistics.median(run.first for run in found) for found in runs.values()]
    report.limit("first token of 32 against one at a time", waits[0] / waits[1], 1 / 20)


def against_transformers(
    report: Report, server: Server, peer: Server, prompts: Prompts, tokens: int, pairs: int
) -> None:
    warm(prompts, tokens, peer.ask)
    sides: dict[str, Ask] = {"openchat": server.ask, "transformers": peer.ask}
    for count in (8, MANY):
        runs = paired(prompts, count, tokens, pairs, sides)
        value = ratio(runs, "openchat", "transformers")
        report.bar(f"{count} clients against transformers serve", value, 0.95)


def health(report: Report, server: Server, prompts: Prompts, tokens: int) -> None:
    with server.health_watched() as waits:
        for _ in range(3):
            server.ask(prompts.fresh(MANY), tokens)
    worst = 1000 * statistics.quantiles(waits, n=100)[98]
    report.limit(f"/health under load, p99 of {len(waits)}", worst, MOST_HEALTH_MS, " ms")


def quantized(report: Report, size: Size, prompts: Prompts, tokens: int, pairs: int) -> None:
    """Both in this process, without HTTP, whose work for each token is the same for both."""
    with tempfile.TemporaryDirectory() as home:
        make_folder(Path(home), size)
        engine = EngineSettings(Path(home), threads=1, max_slots=MANY)
        with (
            Engine.load(dataclasses.replace(engine, quantize="int8")) as one,
            Engine.load(dataclasses.replace(engine, dtype="bf16")) as other,
        ):
            sides = {"int8": in_process(one), "bf16": in_process(other)}
            warm(prompts, tokens, *sides.values())
            runs = paired(prompts, 1, tokens, pairs, sides)
            name = f"int8 against bf16, 1 request, {size.name}"
            report.bar(name, ratio(runs, "int8", "bf16"), 2)
            for count in (8, MANY):
                runs = paired(prompts, count, tokens // 2, 1, sides)
                print(f"      {ratio(runs, 'int8', 'bf16'):.2f}x bf16", flush=True)


def in_process(engine: Engine) -> Ask:
    """An engine's answers to prompts, as a server's are asked for."""
    tokenizer: Any = engine.tokenizer

    def ask(prompts: Sequence[str], tokens: int) -> Run:
        firsts: dict[Generation, float] = {}
        counts: list[int] = []
        over = threading.Event()

        def deliver(batch: list[tuple[Generation, Delta]]) -> None:
            for generation, delta in batch:
                firsts.setdefault(generation, time.perf_counter() - wall)
                if delta.completion is not None:
                    counts.append(delta.completion.completion_tokens)
            if len(counts) == len(prompts):
                over.set()

        params = SamplingParams(temperature=0, max_tokens=tokens)
        cpu, wall = time.process_time(), time.perf_counter()
        for text in prompts:
            engine.submit([1, *tokenizer.encode(text)], params, deliver=deliver)
        over.wait()
        seconds = time.perf_counter() - wall
        first = statistics.median(firsts.values())
        return Run(sum(counts), time.process_time() - cpu, seconds, first)

    return ask


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    told = parser.parse_args()
    pairs, tokens = (1, 16) if told.quick else (told.pairs, told.tokens)
    torch.set_num_threads(1)
    report = Report()
    with tempfile.TemporaryDirectory() as home_name:
        home = Path(home_name)
        folder = home / "model"
        prompts = Prompts(make_folder(folder, SMALL if told.quick else LLAMA))
        with ours(folder, home / "fp32.log") as server:
            warm(prompts, tokens, server.ask)
            against_one_at_a_time(report, server, OneAtATime(folder), prompts, tokens)
            python = peer_python(home / "peer")
            if python is None:
                print("      transformers serve could not be installed: its bars are left out")
            else:
                with transformers(python, folder, home / "peer.log") as peer:
                    against_transformers(report, server, peer, prompts, tokens, pairs)
            health(report, server, prompts, tokens)
    for size in (SMALL,) if told.quick else (LLAMA, LARGER):
        quantized(report, size, prompts, 2 * tokens, pairs + 2)
    return 1 if report.failed and not told.quick else 0


if __name__ == "__main__":
    sys.exit(main())
