"""Forward passes over the slots: prompts in, logits of the next tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from openchat_cli.core.errors import UsageError
from openchat_cli.engine import attention, packed
from openchat_cli.engine.cache import DecodeStep, PrefillStep, SlotCache, Span, Step
from openchat_cli.engine.layers import join
from openchat_cli.engine.sampling import RowSampler, sample

# Decoders whose layers all attend to everything before, with one cache entry a layer: what the
# slots and masks here are right for.
ARCHITECTURES = ("llama", "gpt_bigcode", "mistral")

# One attention call of its own takes a CPU as long as reading about this much.
_CALL_BYTES = 100_000


class Forward(Step, Protocol):
    """A forward pass with what goes into it: token ids and their positions [rows, tokens]."""

    input_ids: Tensor
    position_ids: Tensor


class Runner:
    """A causal language model and its slots; the model is taken over (its attention, and on a CPU
    its linear layers, are replaced).

    `slots` requests of up to `context` tokens fit. `vocab_size` cuts the logits to the tokeniser's
    ids, since models pad their vocabulary. Call it inside `torch.inference_mode()`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        slots: int,
        context: int,
        vocab_size: int,
    ) -> None:
        config = model.config
        if config.model_type not in ARCHITECTURES:
            hint = f"it runs {', '.join(ARCHITECTURES)}"
            raise UsageError(f"the engine can't run a {config.model_type} model", hint)
        attention.install(model)
        self.model = model
        self.context = context
        self.device = model.device
        self.vocab_size = vocab_size
        heads, size = _key_value_shape(config)
        layers = config.num_hidden_layers
        self.slots = slots
        shape = (self.slots, heads, context, size)
        self.contents = SlotCache([shape] * layers, model.dtype, self.device)
        window = getattr(config, "sliding_window", None)
        self._window = window if window is not None and window < context else None
        position_bytes = 2 * heads * size * model.dtype.itemsize  # of one layer
        self.token_bytes = layers * position_bytes  # of a slot, for one token
        self.slot_bytes = self.token_bytes * slots * context  # of all slots, once they are full
        self.dtype = str(model.dtype).removeprefix("torch.")
        # From how many needless positions a row on each row attends alone; never where None.
        self.apart = _CALL_BYTES // position_bytes if self.device.type == "cpu" else None
        if self.device.type == "cpu":
            join(model)
            packed.pack(model, model.dtype)
        # Four dimensions are taken for a finished mask, so that transformers makes none; the step's
        # own attention reads none.
        self._no_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        untyped: Any = model
        self._head = untyped.get_output_embeddings()

    def prefill(self, spans: Sequence[Span]) -> Sequence[Tensor]:
        """Read prompt parts; gives for each the hidden states [tokens, size], for `logits`."""
        hidden = self._hidden(PrefillStep(spans, self.device, self._window))[0]
        lengths = [len(span.tokens) for span in spans]
        parts: Sequence[Tensor] = torch.split(hidden, lengths)
        return parts

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """Append one token to each of the first slots, which hold `lengths` tokens; gives the
        logits [rows, vocab] of what follows.
        """
        step = DecodeStep(
            tokens,
            lengths,
            self.context,
            self.device,
            window=self._window,
            apart=self.apart,
        )
        return self.logits(self._hidden(step)[:, 0])

    def logits(self, hidden: Tensor) -> Tensor:
        """The logits [rows, vocab] of what follows hidden states [rows, size]."""
        logits: Tensor = self._head(hidden)
        return logits[:, : self.vocab_size]

    def sample(self, logits: Tensor, rows: Sequence[RowSampler]) -> list[int | None]:
        """The next token of each row of logits [rows, vocab]; None where they are not numbers."""
        return sample(logits, rows)

    def _hidden(self, step: Forward) -> Tensor:
        self.contents.step = step
        hidden: Tensor = self.model.base_model(
            input_ids=step.input_ids,
            attention_mask=self._no_mask,
            position_ids=step.position_ids,
            past_key_values=self.contents,
            use_cache=True,
            step=step,
        ).last_hidden_state
        return hidden


def _key_value_shape(config: Any) -> tuple[int, int]:
    """(heads, size of one) of what a layer caches."""
    queries = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    if config.model_type == "gpt_bigcode":
        return (1 if config.multi_query else queries), size
    return config.num_key_value_heads, size
