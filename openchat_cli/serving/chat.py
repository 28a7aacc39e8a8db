"""Whom `openchat chat` talks to: a server, or a model in this process (heavy imports inside)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from openchat_cli.core.errors import InputError, OpenChatError
from openchat_cli.core.progress import SILENT, Progress
from openchat_cli.core.records import Message
from openchat_cli.engine.settings import EngineSettings, SamplingParams
from openchat_cli.serving.settings import ServeSettings

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionMessageParam

LOCAL_SERVER = f"http://{ServeSettings.host}:{ServeSettings.port}/v1"
_OURS = ("top_k", "min_p", "repetition_penalty")  # beyond OpenAI's protocol


@dataclass(frozen=True)
class ChatSettings:
    """How answers are drawn; None leaves it to the server, or to the engine's own default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        self.sampling()  # refuses values out of range

    def said(self) -> dict[str, Any]:
        """What is not left open."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value is not None}

    def sampling(self) -> SamplingParams:
        """The same for the engine."""
        return SamplingParams(**self.said())


@dataclass(frozen=True)
class Part:
    """Some more of an answer; the last one says why it ended, and counts tokens."""

    text: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Partner(Protocol):
    """Somebody who answers; used as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def name(self) -> str:
        """The model's."""

    def answer(self, messages: Sequence[Message], settings: ChatSettings) -> Iterator[Part]:
        """The answer to a conversation as it comes; OpenChatError where there is none.

        Closing the iterator gives the answer up, and the slot with it.
        """


class Local:
    """A model in this process."""

    def __init__(self, engine: EngineSettings, *, progress: Progress = SILENT) -> None:
        self._engine_settings = engine
        self._progress = progress

    def __enter__(self) -> Self:
        from openchat_cli.engine.engine import Engine

        self._engine = Engine.load(self._engine_settings, progress=self._progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.close()

    @property
    def name(self) -> str:
        return self._engine.kind.name

    def answer(self, messages: Sequence[Message], settings: ChatSettings) -> Iterator[Part]:
        from openchat_cli.core import templates

        prompt = templates.prompt(self._engine.kind, self._engine.tokenizer, messages)
        generation = self._engine.submit(prompt, settings.sampling())
        try:
            for delta in generation:
                done = delta.completion
                if done is None:
                    yield Part(delta.text)
                elif done.error is not None:
                    raise OpenChatError(done.error)
                else:
                    tokens = done.completion_tokens
                    yield Part(delta.text, done.finish_reason, len(prompt), tokens)
        finally:
            generation.cancel()


class Remote:
    """A server that speaks OpenAI's protocol; `model` None takes the first it lists."""

    def __init__(self, url: str, model: str | None, *, api_key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"'{url}' is not the URL of a server", f"for instance {LOCAL_SERVER}")
        self._url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        self._model = model
        self._api_key = api_key

    def __enter__(self) -> Self:
        import openai

        # Servers without keys take any; the client insists on one.
        self._client = openai.OpenAI(base_url=self._url, api_key=self._api_key or "none")
        if self._model is None:
            try:
                self._model = self._client.models.list().data[0].id
            except openai.OpenAIError as error:
                raise self._explained(error) from None
            except IndexError:
                raise OpenChatError(f"{self._url}: the server lists no model") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        assert self._model is not None, "known since __enter__"
        return self._model

    def answer(self, messages: Sequence[Message], settings: ChatSettings) -> Iterator[Part]:
        import httpx2
        import openai

        said = settings.said()
        extra = {name: said.pop(name) for name in _OURS if name in said}
        finish: str | None = None
        try:
            with self._client.chat.completions.create(
                model=self.name,
                messages=[_openai_message(message) for message in messages],
                stream=True,
                stream_options={"include_usage": True},
                extra_body=extra or None,
                **said,
            ) as stream:
                for chunk in stream:
                    if chunk.choices:
                        finish = chunk.choices[0].finish_reason or finish
                        yield Part(chunk.choices[0].delta.content or "")
                    if chunk.usage:
                        counts = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                        yield Part("", finish, *counts)
        except openai.OpenAIError as error:
            raise self._explained(error) from None
        except httpx2.HTTPError:
            finish = None  # whatever came before, its end did not
        if finish is None:
            raise OpenChatError(f"{self._url}: the connection broke off before the answer ended")

    def _explained(self, error: openai.OpenAIError) -> OpenChatError:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return OpenChatError(f"{self._url}: no answer in time")
        if isinstance(error, openai.APIConnectionError):
            hint = "start one with: openchat serve --model-path MODEL"
            return OpenChatError(f"{self._url}: no server answers there", hint)
        if isinstance(error, openai.AuthenticationError):
            return OpenChatError(f"{self._url}: {_said(error)}", "set OPENAI_API_KEY")
        return OpenChatError(f"{self._url}: {_said(error)}")


def _said(error: openai.OpenAIError) -> str:
    """The server's own words where it has some."""
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error)


def _openai_message(message: Message) -> ChatCompletionMessageParam:
    if message.role == "user":
        return {"role": "user", "content": message.content}
    if message.role == "assistant":
        return {"role": "assistant", "content": message.content}
    return {"role": "system", "content": message.content}
