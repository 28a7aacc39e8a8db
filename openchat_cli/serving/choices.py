"""What of an answer goes into a choice on the wire: its text, the echoed prompt, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from openchat_cli.engine.generation import Completion, Delta
from openchat_cli.serving.logprobs import Spelling
from openchat_cli.serving.protocol import Options
from openchat_cli.serving.tokenise import control_names

if TYPE_CHECKING:
    from openchat_cli.serving.backend import Backend

Said = tuple[str, dict[str, Any] | None]  # text, `logprobs`


class Choice:
    """One choice of a reply: `take` its deltas one by one, or the `whole` completion."""

    def __init__(
        self,
        engine: Backend,
        options: Options,
        prompt: Sequence[int],
        text: str | None,
        *,
        chat: bool,
    ) -> None:
        bytes_of = engine.tokenizer.token_bytes
        control = {
            token: name for token, name in control_names(engine).items() if not bytes_of(token)
        }
        self._chat = chat
        self._wanted = options.params.logprobs is not None
        self._prompt = list(prompt) if options.echo else []
        self._spelling = Spelling(
            bytes_of, control, drop_space=engine.drops_space and (chat or options.echo)
        )
        self._echo = ""
        if options.echo:
            self._echo = text if text is not None else _text(engine, prompt)

    def take(self, delta: Delta) -> Said:
        """What a delta adds to the choice."""
        if self._chat:
            listed = self._spelling.chat(delta.logprobs) if self._wanted else None
            return delta.text, listed if listed and listed["content"] else None
        text, items = delta.text, list(delta.logprobs)
        tokens = [item.token for item in delta.logprobs]
        echo = self._prompt and (not self._wanted or delta.prompt_logprobs is not None)
        known: list[Any] = [*items]
        if echo:
            text = self._echo + text
            known, tokens = [*(delta.prompt_logprobs or ()), *items], [*self._prompt, *tokens]
            self._prompt = []
        return text, self._spelling.plain(known, tokens) if self._wanted and tokens else None

    def whole(self, completion: Completion) -> Said:
        """The whole choice."""
        delta = Delta(completion.text, None, completion.logprobs or (), completion.prompt_logprobs)
        text, logprobs = self.take(delta)
        if self._wanted and logprobs is None:
            logprobs = self._spelling.chat(()) if self._chat else self._spelling.plain((), ())
        return text, logprobs


def _text(engine: Backend, prompt: Sequence[int]) -> str:
    data = b"".join(map(engine.tokenizer.token_bytes, prompt))
    return (data.removeprefix(b" ") if engine.drops_space else data).decode("utf-8", "replace")
