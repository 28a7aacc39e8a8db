"""What the server needs of whoever answers: the engine in this process, or a server behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from openchat_cli.core import templates
from openchat_cli.core.registry import ModelType
from openchat_cli.engine.generation import (
    Deliver,
    Generation,
    Load,
    Totals,
    deliver_to_iterators,
)
from openchat_cli.engine.settings import SamplingParams


class Tokenizer(templates.Tokenizer, Protocol):
    """As the engine's."""

    @property
    def vocab_size(self) -> int: ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for, b"" for a control token."""


class Backend(Protocol):
    """`engine.Engine` and `upstream.UpstreamEngine`."""

    @property
    def kind(self) -> ModelType: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context(self) -> int:
        """Tokens a conversation may hold; 0 where nobody knows."""

    @property
    def slots(self) -> int: ...

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def weight_bytes(self) -> int: ...

    @property
    def slot_bytes(self) -> int: ...

    @property
    def drops_space(self) -> bool: ...

    @property
    def totals(self) -> Totals: ...

    @property
    def failure(self) -> str | None:
        """Why it has stopped for good."""

    @property
    def trouble(self) -> str | None:
        """Why it can't answer just now."""

    def submit_together(
        self,
        prompts: Sequence[Sequence[int]],
        params: Sequence[SamplingParams],
        *,
        deliver: Deliver = deliver_to_iterators,
        continues: bool = False,
    ) -> list[Generation]: ...

    def load_now(self) -> Load: ...

    def close(self) -> None: ...
