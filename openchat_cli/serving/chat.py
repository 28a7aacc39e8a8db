"""Whom `openchat chat` talks to: a server, or a model in this process (heavy imports inside)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self
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


@dataclass(frozen=True)
class ChatSettings:
    """How answers are drawn, and what the conversation begins with."""

    system: str | None = None
    temperature: float = SamplingParams.temperature
    top_p: float = SamplingParams.top_p
    max_tokens: int = SamplingParams.max_tokens
    seed: int | None = None

    def __post_init__(self) -> None:
        self.sampling()  # refuses values out of range

    def sampling(self) -> SamplingParams:
        """The same for the engine."""
        return SamplingParams(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
        )


class Partner(Protocol):
    """Somebody who answers; used as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def answer(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer to a conversation, in pieces; OpenChatError where there is none."""


class Local:
    """A model in this process."""

    def __init__(
        self, engine: EngineSettings, settings: ChatSettings, *, progress: Progress = SILENT
    ) -> None:
        self._engine_settings = engine
        self._params = settings.sampling()
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

    def answer(self, messages: Sequence[Message]) -> Iterator[str]:
        from openchat_cli.core import templates

        prompt = templates.prompt(self._engine.kind, self._engine.tokenizer, messages)
        generation = self._engine.submit(prompt, self._params)
        try:
            for delta in generation:
                if delta.completion is not None and delta.completion.error is not None:
                    raise OpenChatError(delta.completion.error)
                yield delta.text
        finally:
            generation.cancel()


class Remote:
    """A server that speaks OpenAI's protocol; `model` None takes the first it lists."""

    def __init__(
        self, url: str, model: str | None, settings: ChatSettings, *, api_key: str | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"'{url}' is not the URL of a server", f"for instance {LOCAL_SERVER}")
        self._url = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
        self._model = model
        self._settings = settings
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

    def answer(self, messages: Sequence[Message]) -> Iterator[str]:
        import openai

        assert self._model is not None, "known since __enter__"
        settings = self._settings
        try:
            with self._client.chat.completions.create(
                model=self._model,
                messages=[_openai_message(message) for message in messages],
                temperature=settings.temperature,
                top_p=settings.top_p,
                max_tokens=settings.max_tokens,
                seed=settings.seed,
                stream=True,
            ) as stream:
                for chunk in stream:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content
        except openai.OpenAIError as error:
            raise self._explained(error) from None

    def _explained(self, error: openai.OpenAIError) -> OpenChatError:
        import openai

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
