"""What an engine and one request to it can be told (light: no torch here)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from openchat_cli.core.errors import UsageError

Dtype = Literal["auto", "fp32", "bf16"]
Quantize = Literal["int8", "int4"]
MAX_LOGPROBS = 20
CPU_SLOTS = 32
GPU_SLOTS = 256  # at most; fewer where memory holds fewer

# Dividing logits by less than this leaves the numbers that float32 has.
_GREEDY_BELOW = 1e-5


@dataclass(frozen=True)
class EngineSettings:
    """How the model is loaded and how many requests it answers at once."""

    model_path: Path  # a folder, or a model's name on the hub
    model_type: str | None = None  # read from the folder's openchat.json when absent
    model_file: Path | None = None
    device: str = "auto"  # "auto": cuda where there is one, else cpu; or any torch device
    dtype: Dtype = "auto"  # "auto": bf16 on CUDA, fp32 on CPU
    quantize: Quantize | None = None  # round the weights, for speed and memory
    context: int | None = None  # tokens a request may hold; the model's own when absent
    max_slots: int | None = None  # requests answered together; by the device when absent
    max_concurrency: int | None = None  # of the slots; the others only keep beginnings to reuse
    queue_size: int = 256  # answers that may wait for a slot
    prefill_tokens: int = 1024  # prompt tokens read in one step, over all requests
    threads: int | None = None  # CPU threads of torch; its own choice when absent
    gpu_memory_utilization: float = 0.9  # share of a GPU's memory that may be in use in all
    trust_remote_code: bool = False  # run the Python files of a model folder that brings its own

    def __post_init__(self) -> None:
        counts = ("max_slots", "max_concurrency", "prefill_tokens", "context", "threads")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.queue_size < 0:
            raise UsageError(f"queue_size must be at least 0, not {self.queue_size}")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UsageError("gpu_memory_utilization must be above 0 and at most 1")


@dataclass(frozen=True)
class SamplingParams:
    """How one answer is drawn. Raises UsageError for a value outside its range.

    Temperature 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 are off; `top_p` 0 keeps the best
    token alone. Presence and frequency count the tokens of the answer so far. `max_tokens` is cut
    to what the context leaves; 0 is for those who only ask how likely the prompt is. With a seed,
    the same request draws the same answer.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 768
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()  # besides the end-of-turn token, which always stops
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0  # what used tokens' logits are divided by, the prompt's too
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # token id -> added to its logit
    logprobs: int | None = None  # with each token's own, those of so many of the best
    prompt_logprobs: int | None = None  # the same for the prompt

    def __post_init__(self) -> None:
        _within("temperature", self.temperature, 0, 100)
        _within("top_p", self.top_p, 0, 1)
        _within("top_k", self.top_k, 0, math.inf)
        _within("min_p", self.min_p, 0, 1)
        _within("max_tokens", self.max_tokens, self.prompt_logprobs is None, math.inf)
        _within("presence_penalty", self.presence_penalty, -2, 2)
        _within("frequency_penalty", self.frequency_penalty, -2, 2)
        _within("repetition_penalty", self.repetition_penalty, 0.01, 100)
        for name in ("logprobs", "prompt_logprobs"):
            _within(name, getattr(self, name) or 0, 0, MAX_LOGPROBS)
        for value in self.logit_bias.values():
            _within("logit_bias", value, -100, 100)
        if "" in self.stop:
            raise UsageError("a stop string must not be empty")

    @property
    def greedy(self) -> bool:
        """Whether the best token is always taken."""
        return self.temperature < _GREEDY_BELOW


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        limit = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} must be {limit}, not {value:g}")
