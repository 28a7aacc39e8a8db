"""`openchat serve` and `openchat chat`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from openchat_cli.cli import serve_beyond
from openchat_cli.cli.options import JsonFlag, ModelFileOption, ModelTypeOption, QuietFlag
from openchat_cli.cli.terminal import Terminal, error_line
from openchat_cli.core.errors import (
    InputError,
    OpenChatError,
    UsageError,
    did_you_mean,
    need,
)
from openchat_cli.core.records import Message
from openchat_cli.engine.settings import Dtype, EngineSettings, Quantize
from openchat_cli.serving.chat import LOCAL_SERVER, ChatSettings, Local, Partner, Remote
from openchat_cli.serving.keys import read_key_file
from openchat_cli.serving.settings import ServeSettings
from openchat_cli.serving.upstream_settings import UpstreamSettings

if TYPE_CHECKING:
    from openchat_cli.serving.server import Ready

ModelPathOption = Annotated[
    Path | None, typer.Option("--model-path", "-m", help="The folder of the model.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
DtypeOption = Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32 or bf16.")]
ContextOption = Annotated[
    int | None, typer.Option(min=1, help="Tokens one conversation may hold, if fewer.")
]


def serve(
    command: typer.Context,
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM OPTIONS]", help="With --engine vllm: its own options."),
    ] = None,
    model_path: ModelPathOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = ServeSettings.host,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes any free one.")
    ] = ServeSettings.port,
    name: Annotated[
        str | None, typer.Option(help="What clients call the model; its type's name if absent.")
    ] = None,
    device: DeviceOption = EngineSettings.device,
    dtype: DtypeOption = EngineSettings.dtype,
    context: ContextOption = None,
    max_slots: Annotated[
        int, typer.Option(help="Requests answered together.")
    ] = EngineSettings.max_slots,
    queue_size: Annotated[
        int, typer.Option(help="Requests that may wait; more get 429.")
    ] = EngineSettings.queue_size,
    quantize: Annotated[
        str | None,
        typer.Option(help="int8, or int4 on a GPU: round the weights, for speed and memory."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; all that the process may use if absent.")
    ] = None,
    gpu_memory_utilization: Annotated[
        float, typer.Option(help="Share of the GPU's free memory for conversations.")
    ] = EngineSettings.gpu_memory_utilization,
    temperature: Annotated[
        float, typer.Option(help="Temperature of a request that names none.")
    ] = ServeSettings.temperature,
    top_p: Annotated[
        float, typer.Option(help="top_p of a request that names none.")
    ] = ServeSettings.top_p,
    max_tokens: Annotated[
        int, typer.Option(help="New tokens of a request that names no limit.")
    ] = ServeSettings.max_tokens,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="API keys, one a line (or set OPENCHAT_API_KEYS, comma-separated)."),
    ] = None,
    allow_unauthenticated: Annotated[
        bool, typer.Option(help="Listen on a public address although there are no API keys.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="own, or vllm: start your own `vllm serve` with our template.")
    ] = "own",
    print_command: Annotated[
        bool, typer.Option("--print-command", help="With --engine vllm: show it, start nothing.")
    ] = False,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Another server's URL: serve in front of it, with the template of --model-path."
        ),
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option(help="The upstream's model; the first it lists if absent.")
    ] = None,
    upstream_key_file: Annotated[
        Path | None,
        typer.Option(help="The upstream's key (or set OPENCHAT_UPSTREAM_KEY)."),
    ] = None,
    upstream_timeout: Annotated[
        float, typer.Option(help="Seconds without a byte from the upstream.")
    ] = UpstreamSettings.timeout,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Serve a model with OpenAI's protocol.

    \b
    openchat serve --model-path model/
    openchat serve --model-path model/ --port 0 --json | head -1
    """
    with Terminal("serve", json_output=json_, quiet=quiet) as terminal:
        options = serve_beyond.given(command)
        serve_beyond.check(engine, upstream, options, extra)
        if model_path is None and upstream is None:
            raise UsageError("no model to serve", "openchat serve --model-path MODEL")
        behind = None
        if upstream is not None:
            behind = UpstreamSettings(
                upstream,
                key=serve_beyond.upstream_key(upstream_key_file),
                model=upstream_model,
                model_path=model_path,
                model_type=model_type,
                model_file=model_file,
                context=context,
                max_concurrency=(
                    max_slots if "max_slots" in options else UpstreamSettings.max_concurrency
                ),
                queue_size=queue_size,
                timeout=upstream_timeout,
            )
        settings = ServeSettings(
            engine=EngineSettings(
                model_path=model_path or Path(),  # an upstream needs none
                model_type=model_type,
                model_file=model_file,
                device=device,
                dtype=_dtype(dtype),
                quantize=_quantize(quantize),
                context=context,
                max_slots=max_slots,
                queue_size=queue_size,
                threads=threads,
                gpu_memory_utilization=gpu_memory_utilization,
            ),
            host=host,
            port=port,
            name=name,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            api_keys=_api_keys(api_key_file),
            allow_unauthenticated=allow_unauthenticated,
            upstream=behind,
        )
        if engine == "vllm":
            serve_beyond.run_vllm(
                terminal, settings, options=options, extra=extra or (), print_command=print_command
            )
            return
        if behind is None:
            need("openchat serve", "serve", "uvicorn", "starlette", "torch", "transformers")
        else:
            need("openchat serve --upstream", "serve", "uvicorn", "starlette")
            serve_beyond.check_upstream(behind)
        from openchat_cli.serving.server import serve as run

        _log_to_stderr(quiet)

        def ready(server: Ready) -> None:
            _show_ready(terminal, server, keys=bool(settings.api_keys))

        run(settings, progress=terminal.progress, ready=ready)


def chat(
    url: Annotated[
        str | None, typer.Option(help="A running server, such as http://127.0.0.1:18888/v1.")
    ] = None,
    model_path: ModelPathOption = None,
    model_type: ModelTypeOption = None,
    model_file: ModelFileOption = None,
    model: Annotated[
        str | None, typer.Option(help="The server's model; the first it lists if absent.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    device: DeviceOption = EngineSettings.device,
    dtype: DtypeOption = EngineSettings.dtype,
    context: ContextOption = None,
    temperature: Annotated[
        float, typer.Option(help="0 always takes the likeliest word.")
    ] = ChatSettings.temperature,
    top_p: Annotated[float, typer.Option(help="Share of likely words to draw from.")] = (
        ChatSettings.top_p
    ),
    max_tokens: Annotated[
        int, typer.Option(help="The most tokens in one answer.")
    ] = ChatSettings.max_tokens,
    seed: Annotated[int | None, typer.Option(help="Repeat the same answers.")] = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Talk to a model in the terminal; one message a line, an end of input (Ctrl-D) leaves.

    \b
    openchat chat --model-path model/
    echo "Hello" | openchat chat --url http://127.0.0.1:18888/v1
    """
    with Terminal("chat", json_output=json_, quiet=quiet, data_on_stdout=True) as terminal:
        settings = ChatSettings(
            system=system, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed
        )
        if url is not None and model_path is not None:
            raise UsageError("--url and --model-path are two models: give one of them")
        partner: Partner
        if model_path is None:
            key = os.environ.get("OPENAI_API_KEY")
            partner = Remote(url or LOCAL_SERVER, model, settings, api_key=key)
        else:
            need("openchat chat --model-path", "model", "torch", "transformers")
            engine = EngineSettings(
                model_path=model_path,
                model_type=model_type,
                model_file=model_file,
                device=device,
                dtype=_dtype(dtype),
                context=context,
                max_slots=1,
            )
            partner = Local(engine, settings, progress=terminal.progress)
        with partner:
            turns = _talk(terminal, partner, settings)
        terminal.done(counts={"turns": turns})


# --- serve ---


def _dtype(name: str) -> Dtype:
    if name not in get_args(Dtype):
        raise UsageError(f"no dtype '{name}'", did_you_mean(name, get_args(Dtype)))
    return cast(Dtype, name)


def _quantize(name: str | None) -> Quantize | None:
    if name is not None and name not in get_args(Quantize):
        raise UsageError(f"can't quantize to '{name}'", did_you_mean(name, get_args(Quantize)))
    return cast("Quantize | None", name)


def _api_keys(path: Path | None) -> tuple[str, ...]:
    listed = os.environ.get("OPENCHAT_API_KEYS", "").split(",")
    keys = tuple(key.strip() for key in listed if key.strip())
    return keys if path is None else (*keys, *read_key_file(path))


def _log_to_stderr(quiet: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("openchat")
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


def _show_ready(terminal: Terminal, server: Ready, *, keys: bool) -> None:
    terminal.event(
        "ready",
        url=server.url,
        model=server.model,
        context=server.context,
        slots=server.slots,
        device=server.device,
    )
    body = {"model": server.model, "messages": [{"role": "user", "content": "Hello"}]}
    curl = ["curl", f"{server.url}/chat/completions", "-H", "Content-Type: application/json"]
    if keys:
        curl += ["-H", "Authorization: Bearer $KEY"]
    shown = shlex.join([*curl, "-d", json.dumps(body)])
    if keys:
        shown = shown.replace("'Authorization: Bearer $KEY'", '"Authorization: Bearer $KEY"')
    terminal.note(f"serving  {server.url}")
    terminal.note(f"model    {server.model}")
    context = f"{server.context} tokens" if server.context else "the upstream knows"
    terminal.note(f"context  {context}")
    terminal.note(f"slots    {server.slots} requests together, on {server.device}")
    terminal.note(f"keys     {'needed' if keys else 'none: whoever reaches this port may ask'}")
    terminal.note(f"try      {shown}")
    terminal.note(f"or       openchat chat --url {server.url}")


# --- chat ---


def _talk(terminal: Terminal, partner: Partner, settings: ChatSettings) -> int:
    """Answer line after line until the input ends; gives the number of answers."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    start = [] if settings.system is None else [Message("system", settings.system)]
    messages = list(start)
    turns = 0
    if on_terminal:
        terminal.note(
            "One message a line. /new begins anew, Ctrl-C stops an answer, Ctrl-D leaves."
        )
    for line in _lines(on_terminal):
        if line == "/new":
            messages = list(start)
            continue
        asked = [*messages, Message("user", line)]
        try:
            text = _say(partner.answer(asked), stoppable=on_terminal)
        except OpenChatError as error:
            if not on_terminal:
                raise
            error_line(error)
            continue
        messages = [*asked, Message("assistant", text)]
        turns += 1
    return turns


def _lines(on_terminal: bool) -> Iterator[str]:
    """What the user says, without blank lines."""
    if on_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # importing it gives input() its line editing
    while True:
        if on_terminal:
            try:
                line = input("> ")
            except EOFError:
                print()
                return
        else:
            read = sys.stdin.buffer.readline()
            if not read:
                return
            try:
                line = read.decode("utf-8")
            except UnicodeDecodeError:
                raise InputError("stdin: a line is not UTF-8") from None
        if line.strip():
            yield line.strip()


def _say(pieces: Iterator[str], *, stoppable: bool) -> str:
    """Print an answer as it comes; on a terminal Ctrl-C ends it and keeps what was said."""
    said: list[str] = []
    try:
        for piece in pieces:
            said.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not stoppable:
            raise
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
    print(flush=True)
    return "".join(said)
