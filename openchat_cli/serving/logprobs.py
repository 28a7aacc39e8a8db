"""Log-probabilities as OpenAI's two endpoints write them."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any

from openchat_cli.engine.generation import TokenLogprob

Body = dict[str, Any]

_LEAST = -9999.0  # JSON has no infinity


class Spelling:
    """The tokens of one choice, written out as they come.

    `token_bytes` gives a token's bytes and `control` the names of those that have none. With
    `drop_space` the first space is left out, as it is from the text. `offset` counts the text's
    characters so far.
    """

    def __init__(
        self,
        token_bytes: Callable[[int], bytes],
        control: dict[int, str],
        *,
        drop_space: bool = False,
    ) -> None:
        self._token_bytes = token_bytes
        self._control = control
        self._at_start = drop_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.offset = 0

    def chat(self, items: Sequence[TokenLogprob]) -> Body:
        """`choices[].logprobs` of a chat completion: of the tokens that the text is made of."""
        return {"content": [self._entry(item) for item in items if not item.ends], "refusal": None}

    def _entry(self, item: TokenLogprob) -> Body:
        top = [self._one(token, value) for token, value in item.top]
        made = {**self._one(item.token, item.logprob), "top_logprobs": top}
        self._advance(item.token)
        return made

    def _one(self, token: int, value: float) -> Body:
        data = self._bytes(token)
        shown = data.decode("utf-8", "replace")
        return {"token": shown, "logprob": _finite(value), "bytes": list(data)}

    def plain(self, items: Sequence[TokenLogprob | None], tokens: Sequence[int]) -> Body:
        """`choices[].logprobs` of a text completion, for `tokens` and what is known of each."""
        body: Body = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for item, token in zip(items, tokens, strict=True):
            body["tokens"].append(self._name(token))
            body["token_logprobs"].append(None if item is None else _finite(item.logprob))
            body["top_logprobs"].append(None if item is None else self._best(item))
            body["text_offset"].append(self.offset)
            self._advance(token)
        return body

    def _best(self, item: TokenLogprob) -> dict[str, float]:
        # The token itself is always among them; of two of one spelling the likelier counts.
        best: dict[str, float] = {}
        for token, value in (*item.top, (item.token, item.logprob)):
            best.setdefault(self._name(token), _finite(value))
        return best

    def _name(self, token: int) -> str:
        data = self._bytes(token)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:  # part of a character
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def _bytes(self, token: int) -> bytes:
        if token in self._control:
            return self._control[token].encode()
        data = self._token_bytes(token)
        return data.removeprefix(b" ") if self._at_start else data

    def _advance(self, token: int) -> None:
        if token in self._control:
            return
        data = self._bytes(token)
        self._at_start = self._at_start and not self._token_bytes(token)
        self.offset += len(self._decoder.decode(data))


def _finite(value: float) -> float:
    return max(value, _LEAST)
