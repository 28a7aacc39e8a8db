"""Generation on one GPU: a model of 7B shape, against transformers and the memory's bandwidth.

    python tests/benchmarks/serve_gpu.py --case 1 --case 32 --case 128 [--tokens 256] [--prompt 128]
    python tests/benchmarks/serve_gpu.py --toy --case 1 --case 4     # the whole script, on a CPU

Random bf16 weights are made on the device: nothing is downloaded or read from a disk, and nothing
beside torch, transformers and this project is needed. For each case so many greedy requests of
equal length are answered at once, by our engine and then by transformers' continuous batching, in
one process, both started and warmed up before. A case stops after `--seconds`, those starts
included; what was measured by then counts.

One JSON line a case is printed and appended to `--out`. `limit` is how many tokens a second the
memory would allow, if a step only read the weights and the keys and values that it needs, at the
rate at which this device was just seen to copy. `share_of_limit` compares the steps between first
and last token with it; the other rates are of the whole, prompts included.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # the project, installed or not

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig
from transformers.generation.continuous_batching.utils import WorkloadHints

from openchat_cli.core import registry
from openchat_cli.core.progress import SILENT
from openchat_cli.engine import cuda, cuda_memory
from openchat_cli.engine.cuda_graphs import CudaGraphs, eager
from openchat_cli.engine.engine import Delta, Engine, Generation
from openchat_cli.engine.settings import EngineSettings, SamplingParams

PEER_SHARE = 0.5  # of the time that is left for it


@dataclass(frozen=True)
class Shape:
    """The sizes of a LLaMA."""

    vocab: int
    hidden: int
    inner: int
    layers: int
    heads: int
    groups: int


SHAPES = {
    "7b": Shape(32_000, 4096, 11_008, 32, 32, 32),  # LLaMA-7B
    "7b-gqa": Shape(32_002, 4096, 14_336, 32, 32, 8),  # Mistral-7B, OpenChat 3.5
    "toy": Shape(512, 64, 128, 2, 4, 2),
}


class Letters:
    """A tokeniser for random ids: every token is a letter, none ends an answer."""

    bos_id = 0

    def __init__(self, vocab: int) -> None:
        self.vocab_size = self.eot_id = vocab

    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def token_bytes(self, token: int) -> bytes:
        return b"x"


@dataclass(frozen=True)
class Run:
    """All requests of a case answered once."""

    seconds: float  # from the first request to the last token
    first: float = 0  # until every request had its first token
    later: int = 0  # tokens that came after that


class OutOfTimeError(Exception):
    """The case's time is over."""


def main() -> None:
    told = arguments()
    device = torch.device("cpu" if told.toy else "cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("error: no CUDA device here; --toy runs the script on a CPU")
    shape = SHAPES["toy" if told.toy else told.shape]
    began = time.monotonic()
    model = build(shape, device)
    bandwidth = copied_per_second(device)
    for number, case in enumerate(told.case):
        start = began if number == 0 else time.monotonic()
        line = measure(model, shape, case, told, bandwidth, deadline=start + told.seconds)
        text = json.dumps(line)
        print(text, flush=True)
        if told.out:
            with told.out.open("a", encoding="utf-8") as file:
                file.write(text + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", type=int, action="append", help="requests at once; may repeat")
    parser.add_argument("--shape", choices=["7b", "7b-gqa"], default="7b")
    parser.add_argument("--toy", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--tokens", type=int, default=256, help="new tokens of each request")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240, help="most a case may take")
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    parser.add_argument("--out", type=Path, help="append the JSON lines here")
    told = parser.parse_args()
    told.case = told.case or [1, 32, 128]
    return told


def build(shape: Shape, device: torch.device) -> Any:
    """The model with random weights, made where it stays."""
    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM
    with torch.device(device):
        return make.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()


def copied_per_second(device: torch.device) -> float:
    """Bytes that the device's memory reads and writes in a second, as a copy of much does it."""
    count = 2**30 if device.type == "cuda" else 2**24
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(12):
        wait(device)
        began = time.perf_counter()
        target.copy_(source)
        wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * count / statistics.median(seconds[2:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    model: Any, shape: Shape, case: int, told: argparse.Namespace, bandwidth: float, deadline: float
) -> dict[str, Any]:
    """One case: ours, then the peer's, as much of it as there is time for."""
    asked = prompts(case, told.prompt, shape.vocab)
    found: dict[str, Any] = {"ours": [], "peer": [], "peer_error": None, "ours_error": None}
    began = time.monotonic()
    share = 1 if told.no_peer else PEER_SHARE
    limited(
        "ours",
        found,
        deadline - (1 - share) * (deadline - began),
        lambda: ours(model, shape, asked, told, found["ours"]),
    )
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    if not told.no_peer:
        limited("peer", found, deadline, lambda: peer(model, asked, told, found["peer"]))
    return report(model, shape, case, told, bandwidth, found)


def limited(name: str, found: dict[str, Any], until: float, work: Callable[[], None]) -> None:
    """Do some work until a time at most; why it ended early is noted."""

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, until - time.monotonic()))
    try:
        work()
    except OutOfTimeError:
        found[f"{name}_error"] = "out of time"
    except Exception as error:  # the other's figures are still worth having
        found[f"{name}_error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def prompts(count: int, length: int, vocab: int) -> list[list[int]]:
    rng = random.Random(count)
    return [[rng.randrange(1, vocab) for _ in range(length)] for _ in range(count)]


def ours(
    model: Any, shape: Shape, asked: list[list[int]], told: argparse.Namespace, runs: list[Run]
) -> None:
    """Our engine, warmed up, then measured."""
    with engine(model, shape, len(asked), told) as running:
        answer(running, asked, min(8, told.tokens))
        for turn in range(told.repeat + 1):
            # Other prompts in every turn, or the engine would remember them.
            fresh = [[1 + turn, *prompt[1:]] for prompt in asked]
            run = answer(running, fresh, told.tokens)
            if turn:  # the first meets lengths for which no graph is recorded yet
                runs.append(run)


@contextlib.contextmanager
def engine(model: Any, shape: Shape, slots: int, told: argparse.Namespace) -> Iterator[Engine]:
    settings = EngineSettings(Path("random"), max_slots=slots, prefill_tokens=4096)
    on_cpu = model.device.type == "cpu"
    runner = cuda.start(
        model,
        settings,
        context=told.prompt + told.tokens + 8,
        vocab_size=shape.vocab,
        progress=SILENT,
        measure=plenty if on_cpu else cuda_memory.measure,
        capture=(lambda device: eager) if on_cpu else CudaGraphs,
    )
    if runner.slots < slots:
        raise MemoryError(f"memory holds {runner.slots} requests of {slots}")
    tokenizer = Letters(shape.vocab)
    with Engine(
        runner, tokenizer, registry.get("openchat"), prefill_tokens=settings.prefill_tokens
    ) as made:
        yield made


def plenty(device: torch.device, largest_step: Callable[[], object]) -> cuda_memory.Memory:
    """What a CPU says when it is asked for its GPU's memory."""
    largest_step()
    return cuda_memory.Memory(total=2**34, free=2**33, working=0)


def answer(running: Engine, asked: list[list[int]], tokens: int) -> Run:
    """All at once through the engine."""
    firsts: set[Generation] = set()
    left = len(asked)
    first_seconds, later = 0.0, 0
    over = threading.Event()
    began = time.perf_counter()

    def deliver(batch: list[tuple[Generation, Delta]]) -> None:
        nonlocal left, first_seconds, later
        for generation, delta in batch:
            if len(firsts) == len(asked):
                later += len(delta.text)  # a letter for each token
            elif generation not in firsts:
                firsts.add(generation)
                first_seconds = time.perf_counter() - began
            if delta.completion is not None:
                left -= 1
                if delta.completion.error:
                    left = 0
        if left <= 0:
            over.set()

    params = SamplingParams(temperature=0, max_tokens=tokens)
    for prompt in asked:
        running.submit(prompt, params, deliver=deliver)
    while not over.wait(0.2):  # a wait without an end would hold the alarm back
        if running.failure:
            raise RuntimeError(running.failure)
    seconds = time.perf_counter() - began
    return Run(seconds, first_seconds, later)


def peer(model: Any, asked: list[list[int]], told: argparse.Namespace, runs: list[Run]) -> None:
    """transformers' continuous batching in this process, warmed up, then measured."""
    model.set_attn_implementation("sdpa")
    settings = GenerationConfig(
        do_sample=False,
        min_new_tokens=told.tokens,
        max_new_tokens=told.tokens,
        eos_token_id=-1,
        pad_token_id=0,
    )
    # What its own `generate_batch` tells it of the work to come.
    hints = WorkloadHints(told.prompt, told.tokens, len(asked))
    with model.continuous_batching_context_manager(
        generation_config=settings, workload_hints=hints
    ) as manager:
        for turn in range(told.repeat + 1):
            fresh = [[1 + turn, *prompt[1:]] for prompt in asked]
            began = time.perf_counter()
            manager.add_requests(inputs=fresh, max_new_tokens=told.tokens)
            lengths: list[int] = []
            while len(lengths) < len(fresh):
                made = manager.get_result(timeout=0.2)
                if made is None and not manager.is_running():
                    raise RuntimeError("its worker stopped")
                if made is not None and made.is_finished():
                    lengths.append(len(made.generated_tokens))
            seconds = time.perf_counter() - began
            if set(lengths) != {told.tokens}:
                raise RuntimeError("not all of its answers are whole")
            if turn:
                runs.append(Run(seconds))


def report(
    model: Any,
    shape: Shape,
    case: int,
    told: argparse.Namespace,
    bandwidth: float,
    found: dict[str, Any],
) -> dict[str, Any]:
    weights = sum(weight.nbytes for weight in model.parameters())
    read = weights - model.get_input_embeddings().weight.nbytes  # of which a step reads some rows
    token = 2 * shape.layers * shape.groups * (shape.hidden // shape.heads) * 2
    context = told.prompt + told.tokens / 2  # of a request, half-way
    limit = case * bandwidth / (read + case * context * token)
    line: dict[str, Any] = {
        "benchmark": "serve_gpu",
        "date": time.strftime("%Y-%m-%d"),
        "device": device_name(model.device),
        "shape": "toy" if told.toy else told.shape,
        "dtype": "bf16",
        "requests": case,
        "prompt_tokens": told.prompt,
        "new_tokens": told.tokens,
        "bandwidth_gb_per_second": round(bandwidth / 1e9, 1),
        "limit_tokens_per_second": round(limit, 1),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ours_error": found["ours_error"],
        "peer_error": found["peer_error"],
    }
    for name in ("ours", "peer"):
        if runs := found[name]:
            seconds = statistics.median(run.seconds for run in runs)
            line[f"{name}_tokens_per_second"] = round(case * told.tokens / seconds, 1)
            line[f"{name}_runs"] = len(runs)
    if runs := found["ours"]:
        rate = statistics.median(run.later / (run.seconds - run.first) for run in runs)
        line["ours_first_token_seconds"] = round(statistics.median(run.first for run in runs), 4)
        line["ours_decode_tokens_per_second"] = round(rate, 1)
        line["share_of_limit"] = round(rate / limit, 3)
    if found["ours"] and found["peer"]:
        pace = line["ours_tokens_per_second"] / line["peer_tokens_per_second"]
        line["ratio_to_peer"] = round(pace, 2)
    return line


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
